"""Which page has sent a request: one of ours, or of another site. A browser says so, and no page can make it lie."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Scope

_ORIGIN = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9._~-]+)(?::(\d{1,5}))?", re.I)
_PORTS = {"http": 80, "https": 443}
_SCHEMES = {"http": "http", "ws": "http", "https": "https", "wss": "https"}


class WhosePage(Enum):
    """Which page has sent a request."""

    OURS = "ours"
    """One that this server was called as, or that is listed."""
    FOREIGN = "foreign"
    """One of another site, or one that hides which."""
    UNSAID = "unsaid"
    """Nobody says: no browser has sent it, or an old one, or the user has typed the URL."""


@dataclass(frozen=True, slots=True)
class Origins:
    """Those that are listed: whose pages may call with their users' cookies."""

    listed: frozenset[str] = frozenset()
    pattern: re.Pattern[str] | None = None

    @classmethod
    def of(cls, cors: Mapping[str, Any] | None) -> Origins:
        """Those of a configuration of CORS, which has no `allow_credentials` if it admits everybody: then there are none."""
        if cors is None or not cors.get("allow_credentials"):
            return cls()
        listed = {normal(origin) for origin in cors.get("allow_origins", ())} - {None}
        pattern = cors.get("allow_origin_regex")
        return cls(frozenset(filter(None, listed)), re.compile(pattern) if pattern is not None else None)

    def __contains__(self, origin: str) -> bool:
        """`origin` is normal."""
        return origin in self.listed or (
            self.pattern is not None and self.pattern.fullmatch(origin) is not None
        )


NO_ORIGINS = Origins()


def normal(origin: str) -> str | None:
    """An origin in lower case, without the port that its scheme has anyway; None if it is none: `null`, or anything with a path."""
    match = _ORIGIN.fullmatch(origin)
    if match is None:
        return None
    scheme, host, port = match[1].lower(), match[2].lower(), match[3]
    if port is None or int(port) == _PORTS[scheme]:
        return f"{scheme}://{host}"
    return f"{scheme}://{host}:{int(port)}" if 0 < int(port) <= 65535 else None


def own(scope: Scope) -> str | None:
    """The origin that this server was called as, which trusted proxies may have said: see `web.proxies`. None if nobody says."""
    scheme = _SCHEMES.get(scope.get("scheme", ""))
    hosts = Headers(scope=scope).getlist("host")
    return normal(f"{scheme}://{hosts[0]}") if scheme is not None and len(hosts) == 1 else None


def page_of(headers: Headers, own: str | None, listed: Origins = NO_ORIGINS) -> WhosePage:
    """Which page has sent a request with these headers to the origin `own`."""
    origins, site = headers.getlist("origin"), headers.get("sec-fetch-site", "")
    crosses = site in ("cross-site", "same-site")
    if not origins:
        if crosses:
            return WhosePage.FOREIGN
        return WhosePage.OURS if site == "same-origin" else WhosePage.UNSAID
    origin = normal(origins[0]) if len(origins) == 1 else None
    if origin is None:
        return WhosePage.FOREIGN
    if origin in listed:
        return WhosePage.OURS
    return WhosePage.OURS if origin == own and not crosses else WhosePage.FOREIGN
