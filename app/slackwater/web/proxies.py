"""Where a request came from, by which scheme and to which host: what proxies say of it counts if they are trusted.

Anybody can send the headers that proxies send. The peer of the socket cannot be made up, so it decides: a peer in
`SLACKWATER_TRUSTED_PROXIES` is believed, others are not. This is the only place that reads these headers; whoever needs to know reads
`client`, `scheme` and the `Host` of the scope, which are those of the caller afterwards. On AWS Lambda the gateway's event has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from starlette.types import Receive, Scope

from slackwater.identity.addresses import plain
from slackwater.identity.loopback import is_loopback, names_loopback
from slackwater.web.delivery import Delivery

Networks = tuple[IPv4Network | IPv6Network, ...]
Client = tuple[str, int]

_READ = frozenset(
    {"host", "forwarded", "x-real-ip", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port"}
)
"""Never X-Forwarded-For: proxies append to what the client has sent, so which of its addresses is true depends on their number."""

_SCHEMES = {"http": False, "ws": False, "https": True, "wss": True}
"""Whether each is over TLS."""

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(?::(?P<port>\d{1,5}))?")
_PAIR = re.compile(r'\s*([A-Za-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*))\s*(;|,|$)')
"""One `name=value` of a Forwarded header (RFC 7239), and what ends it."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """How a request has come, as far as that is believed."""

    client: Client | None
    tls: bool
    host: str | None = None
    """What takes the place of its `Host`; None if that stays."""


def believe(scope: Scope, receive: Receive) -> None:
    """Put into the scope of a request what is believed of it."""
    if Delivery.of(scope) is not None:
        return  # the gateway's event has said it all
    # A server that skips the lifespan leaves us without services, and so without proxies that are trusted.
    services = scope.get("state", {}).get("services")
    trusted = services.settings.trusted_proxies if services is not None else ()
    peer = _peer_of(scope, receive)
    arrival = arrival_of(peer, scope["headers"], trusted)
    scope["client"] = arrival.client
    scope["scheme"] = ("ws" if scope["type"] == "websocket" else "http") + ("s" if arrival.tls else "")
    if arrival.host is not None:
        others = [header for header in scope["headers"] if header[0].lower() != b"host"]
        scope["headers"] = [(b"host", arrival.host.encode("latin-1")), *others]


def arrival_of(peer: Arrival, headers: Iterable[tuple[bytes, bytes]], trusted: Networks) -> Arrival:
    """Who sent a request with these headers to `peer`, which has passed it on if it is trusted."""
    address = peer.client[0] if peer.client is not None else ""
    if trusted and _is_in(address, trusted):
        said = _said(headers)
        tls, host = _scheme(said), _host(said)
        real = _address(said)
        return Arrival((real, 0) if real is not None else peer.client, peer.tls if tls is None else tls, host)
    if is_loopback(address):
        # A page's development server on this machine, such as that of Next.js, says so by this header only. Nobody is let in by it:
        # it can but name this machine.
        host = _host({"x-forwarded-host": _said(headers).get("x-forwarded-host", "")})
        if host is not None and names_loopback(host):
            return Arrival(peer.client, peer.tls, host)
    return peer


def _peer_of(scope: Scope, receive: Receive) -> Arrival:
    """The socket's peer, and whether it speaks TLS.

    Unless told otherwise, uvicorn has replaced both by what X-Forwarded-For and X-Forwarded-Proto say, if the peer is loopback; its
    connection still knows.
    """
    transport: Any = getattr(getattr(receive, "__self__", None), "transport", None)
    if transport is None:
        return Arrival(scope.get("client"), _SCHEMES.get(scope.get("scheme", ""), False))
    name = transport.get_extra_info("peername")
    client = (str(name[0]), int(name[1])) if isinstance(name, tuple) and len(name) >= 2 else None
    return Arrival(client, transport.get_extra_info("sslcontext") is not None)


# What is said


def _said(headers: Iterable[tuple[bytes, bytes]]) -> Mapping[str, str]:
    """The headers that are read, by their names; of several lines one list."""
    said: dict[str, str] = {}
    for raw, value in headers:
        name = raw.decode("latin-1").lower()
        if name in _READ:
            text = value.decode("latin-1")
            said[name] = f"{said[name]},{text}" if name in said else text
    return said


def _forwarded(said: Mapping[str, str]) -> Mapping[str, str]:
    """The first element of `Forwarded`, by whoever was closest to the client."""
    text, at, found = said.get("forwarded", ""), 0, dict[str, str]()
    while (pair := _PAIR.match(text, at)) is not None:
        name, quoted, plain, end = pair.groups()
        value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        found.setdefault(name.lower(), value)
        if end != ";":
            return found
        at = pair.end()
    return {}  # malformed


def _first(said: Mapping[str, str], name: str) -> str:
    return said.get(name, "").partition(",")[0].strip()


def _scheme(said: Mapping[str, str]) -> bool | None:
    """Whether the client spoke TLS; None if nobody says."""
    scheme = _forwarded(said).get("proto") or _first(said, "x-forwarded-proto")
    return _SCHEMES.get(scheme.lower())


def _host(said: Mapping[str, str]) -> str | None:
    """The host that the client called; None if nobody says."""
    if host := _forwarded(said).get("host"):
        return host if _is_host(host) else None
    host, port = _first(said, "x-forwarded-host") or said.get("host", ""), _first(said, "x-forwarded-port")
    match = _HOST.fullmatch(host)
    if match is None or not _is_host(host):
        return None
    # A proxy that is itself behind one that ends TLS says 80, and what is meant is no port at all.
    if match["port"] is None and port not in ("80", "443") and _is_host(f"{host}:{port}"):
        return f"{host}:{port}"
    return host


def _is_host(host: str) -> bool:
    match = _HOST.fullmatch(host)
    return match is not None and (match["port"] is None or 0 < int(match["port"]) <= 65535)


def _address(said: Mapping[str, str]) -> str | None:
    """The client's address; None if there is not exactly one."""
    try:
        return str(plain(said.get("x-real-ip", "").strip()))
    except ValueError:
        return None


@lru_cache(maxsize=1024)
def _is_in(address: str, networks: Networks) -> bool:
    try:
        parsed = plain(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)
