"""A server without keys serves only requests from its own machine.

Whoever reaches the port of such a server is its owner. So nobody else may get a request through: not a page of another
site in a local browser (`Origin`), not a name that was rebound to this machine (`Host`), not the client of a proxy.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import ip_address

from starlette.types import ASGIApp, Receive, Scope, Send

from slackwater.errors import Forbidden
from slackwater.kit.refusal import refuse

FORWARDED = frozenset(
    {
        "cf-connecting-ip",
        "forwarded",
        "true-client-ip",
        "via",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-original-forwarded-for",
        "x-original-host",
        "x-real-ip",
    }
)
"""Headers that proxies add, besides those that begin with `x-forwarded`. Their values are not trusted, as anybody can send them: their
presence shows that the socket's peer is not the caller."""

_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^\[\]:@/]+)(?::\d{1,5})?")
_ORIGIN = re.compile(r"https?://(.+)")


class LoopbackOnly:
    """Without keys or an authorizer, passes only requests that `refusal` does not refuse."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and _is_guarded(scope) and (error := refusal(scope)) is not None:
            await refuse(error, scope, receive, send)
            return
        await self.app(scope, receive, send)


def _is_guarded(scope: Scope) -> bool:
    # A server that skips the lifespan leaves us without services, so without keys.
    services = scope.get("state", {}).get("services")
    return services is None or services.settings.loopback_only


def refusal(scope: Scope) -> Forbidden | None:
    """The reason why a request may come from another machine; None if it cannot."""
    names = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]
    for name, _ in names:
        if name in FORWARDED or name.startswith("x-forwarded"):
            return Forbidden(
                f"There is a proxy in front of this server ({name}), so anyone could be calling: configure an API key, see "
                "`slackwater keys new`."
            )
    # uvicorn takes the peer from X-Forwarded-For if it trusts the proxy; requests with that header were refused above.
    peer = scope.get("client")
    if not peer or not is_loopback(peer[0]):
        return Forbidden("Without an API key, only loopback is served: see `slackwater keys new`.")
    hosts = [value for name, value in names if name == "host"]
    if len(hosts) != 1 or not names_loopback(hosts[0]):
        shown = repr(hosts[0][:200]) if len(hosts) == 1 else f"(sent {len(hosts)} times)"
        return Forbidden(f"Host {shown} is not this machine: configure an API key to serve others.")
    for name, value in names:
        if name == "origin" and not is_loopback_origin(value):
            return Forbidden(f"Origin {value[:200]!r} is not this machine: configure an API key to serve it.")
    return None


def is_loopback_origin(origin: str) -> bool:
    """Whether an origin is this machine. `null` may be any page."""
    match = _ORIGIN.fullmatch(origin)
    return match is not None and names_loopback(match[1])


@lru_cache(maxsize=16)
def names_loopback(authority: str) -> bool:
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        return False
    host = match[1].lower()
    return host == "localhost" or is_loopback(host.strip("[]"))


@lru_cache(maxsize=16)
def is_loopback(address: str) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    # A dual-stack listener sees `::ffff:127.0.0.1`.
    return (getattr(parsed, "ipv4_mapped", None) or parsed).is_loopback
