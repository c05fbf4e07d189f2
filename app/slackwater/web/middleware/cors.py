"""CORS: which origins may call, and which headers they may read."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from slackwater.identity.loopback import is_loopback_origin

# `Location` lets a client reconnect, and `Retry-After` wait for as long as it has to.
EXPOSED = (
    "Content-Location",
    "Location",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "X-Pagination-Next",
    "X-Pagination-Total",
)


def defaults(origins: Collection[str] = ("*",)) -> dict[str, Any]:
    """Arguments of Starlette's CORSMiddleware. Cookies only for explicitly named origins."""
    return {
        "allow_origins": list(origins),
        "allow_credentials": "*" not in origins,
        "allow_methods": ["*"],
        "allow_headers": ["*"],
        "expose_headers": list(EXPOSED),
    }


LOOPBACK = r"https?://(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?"
"""A regular expression of the origins that a server without keys may admit."""


def loopback_only(config: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """`config` restricted to loopback origins, for a server without keys; and the origins that were removed."""
    origins = config.get("allow_origins", ())
    kept = [origin for origin in origins if is_loopback_origin(origin)]
    narrowed = {**config, "allow_origins": kept}
    if "*" in origins:
        narrowed["allow_origin_regex"] = LOOPBACK
    return narrowed, [origin for origin in origins if origin != "*" and origin not in kept]


_ANYBODY = ("https://anybody.invalid", "http://anybody.invalid:8080")
"""Origins that only an expression which admits every page could mean."""


def admits_anybody(config: Mapping[str, Any]) -> bool:
    """Whether any page may call; `null` is any page that has put itself into a sandbox."""
    if {"*", "null"} & set(config.get("allow_origins", ())):
        return True
    pattern = config.get("allow_origin_regex")
    return pattern is not None and any(re.fullmatch(pattern, origin) for origin in _ANYBODY)


UNTRUSTED = (
    "cors lets any page call, so none may send cookies, whatever allow_credentials says: name the origins that may, in "
    "SLACKWATER_CORS_ALLOW_ORIGINS or allow_origins."
)


def trusts_anybody(config: Mapping[str, Any]) -> bool:
    """Whether it would let any page call with a user's cookies, and so act as that user."""
    return bool(config.get("allow_credentials")) and admits_anybody(config)


def hides_runs(cors: Mapping[str, Any]) -> bool:
    """Whether a page could not read the id of the run that it has started."""
    return "content-location" not in {name.lower() for name in cors.get("expose_headers", ())}
