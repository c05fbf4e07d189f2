"""The door: who may come in, and what a stopping process answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from urllib.parse import urlsplit

import orjson
from starlette.authentication import AuthCredentials
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.auth.authorizer import caller
from app.auth.keys import find_owner
from app.auth.principal import LOCAL_OWNER, Principal
from app.errors import ApiError, Draining, Forbidden, Unauthorized
from app.reserved import clean_headers
from app.scope import path_of, services_of
from app.settings import LOOPBACK_HOSTS, Settings

PUBLIC_PATHS = frozenset({"/", "/ok", "/info", "/health", "/ready", "/docs", "/openapi.json"})
"""Answered to anybody: they say nothing about anyone's data."""

REFUSED = 4000
"""Plus the status that the answer to a request would have: the close codes that the SDKs know."""

REASON_BYTES = 123
"""What a close frame holds."""

TO_THE_END = frozenset({"/metrics"})
"""Answered also while states are written: what a stop did is in it."""


def is_public(scope: Scope) -> bool:
    """Whether anybody is answered."""
    return path_of(scope) in PUBLIC_PATHS


class Door:
    """Puts the `Principal` into the scope, or answers 401, 403 or 503 instead of the app."""

    def __init__(
        self, app: ASGIApp, open_to: Callable[[Scope], bool] = is_public, introduces: bool = False
    ) -> None:
        """`open_to`: which requests need no caller; `introduces`: the caller is `request.user`, too."""
        self.app = app
        self._open_to = open_to
        self._introduces = introduces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and not self._open_to(scope):
            try:
                principal = scope["principal"] = admit(scope)
                if self._introduces:
                    scope["user"], scope["auth"] = principal, AuthCredentials(["authenticated"])
            except ApiError as refusal:
                if scope["type"] == "http":
                    await _answer(refusal, send)
                else:
                    await refuse_socket(refusal, receive, send)
                return
        await self.app(scope, receive, send)


def admit(scope: Scope) -> Principal:
    """The caller of a request. Raises Draining, Unauthorized or Forbidden."""
    services = services_of(scope)
    if services.runtime.closed and path_of(scope) not in TO_THE_END:
        raise Draining
    principal = _caller(scope, services.settings)
    wanted = services.graphs.http.configurable_headers
    return replace(principal, headers=clean_headers(wanted.pick(scope["headers"]))) if wanted else principal


def _caller(scope: Scope, settings: Settings) -> Principal:
    headers = Headers(scope=scope)
    authorizer = settings.authorizer if settings.on_lambda else None  # nobody stands in front of a container
    if settings.api_keys and (authorizer is None or "x-api-key" in headers):
        return _known(find_owner(settings.api_keys, headers.get("x-api-key", "")), Unauthorized())
    if authorizer is not None:
        return _known(
            caller(scope, authorizer), Unauthorized("The authorizer in front of this server names nobody.")
        )
    if settings.on_lambda:
        raise Unauthorized  # behind a gateway nobody is this machine
    # Without keys: only this machine, and no web page from elsewhere (DNS rebinding sends a foreign Host).
    peer = scope.get("client")
    if peer and not _is_loopback(peer[0]):
        raise Forbidden("Without an API key only loopback is served: see `slackwater keys new`.")
    for name, value in (("Host", headers.get("host")), ("Origin", headers.get("origin"))):
        if value and value != "null" and not _names_loopback(value):
            raise Forbidden(f"{name} {value!r} is not this machine: configure an API key to serve others.")
        if value == "null":
            raise Forbidden("Origin null may be any page: configure an API key to serve it.")
    return Principal(LOCAL_OWNER)


def _known(owner: str | None, refusal: Unauthorized) -> Principal:
    if owner is None:
        raise refusal
    return Principal(owner)


def _names_loopback(authority: str) -> bool:
    try:
        host = urlsplit(authority if "://" in authority else f"//{authority}").hostname
    except ValueError:
        return False
    return host in LOOPBACK_HOSTS


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address in LOOPBACK_HOSTS


async def refuse_socket(error: ApiError, receive: Receive, send: Send) -> None:
    """Say no to a WebSocket, by a close code: a browser cannot read the status of a handshake that is refused."""
    await receive()
    await send({"type": "websocket.accept"})
    reason = error.message.encode()[:REASON_BYTES].decode(errors="ignore")
    await send({"type": "websocket.close", "code": REFUSED + error.status, "reason": reason})


async def _answer(error: ApiError, send: Send) -> None:
    body = orjson.dumps({"detail": error.message})
    headers = {"content-type": "application/json", "content-length": str(len(body)), **error.headers}
    await send(
        {
            "type": "http.response.start",
            "status": error.status,
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": body})
