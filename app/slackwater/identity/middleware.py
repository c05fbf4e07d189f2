"""Authentication of requests, and how many of them and of streams each owner may have. A process that has closed answers 503 to all of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from starlette.authentication import AuthCredentials
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slackwater.errors import (
    ApiError,
    DatabaseSilent,
    Draining,
    NotAuthenticated,
    SessionEnded,
    Unauthorized,
)
from slackwater.identity import csrf, internal
from slackwater.identity.audit.refusals import identified
from slackwater.identity.authorizer import caller
from slackwater.identity.keys import INTERNAL_TOKEN, find_owner
from slackwater.identity.limits.streams import stays_open
from slackwater.identity.permissions import Permission
from slackwater.identity.principal import LOCAL_OWNER, Principal
from slackwater.identity.scopes import EVERYTHING
from slackwater.kit.refusal import Refusal, refuse
from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE
from slackwater.web.in_process import on_behalf_of
from slackwater.web.route_table import (
    GATEWAY,
    PUBLIC,
    WEBSOCKET,
    WHEN_CLOSED,
    Feature,
    entry_of,
    is_public_account,
    is_public_channel,
    permission_of,
)
from slackwater.web.scope import headers_for_graphs, is_of_accounts, is_of_channels, path_of, services_of

if TYPE_CHECKING:
    from slackwater.identity.valid import Valid
    from slackwater.services import Services

log = logging.getLogger(__name__)

KEY_ENDED = "The key that this request was sent with is valid no more: it was revoked, or has expired."


def is_public(scope: Scope) -> bool:
    """Whether the path needs no authentication."""
    path = path_of(scope)
    if path in PUBLIC or (is_of_accounts(scope, path) and is_public_account(path)):
        return True
    return is_of_channels(scope, path) and is_public_channel(path)


class Watch(NamedTuple):
    """What a request was sent with, which may end while it is being answered."""

    valid: Valid[Any, Any]
    credential_id: UUID
    ended: ApiError
    """What its sender is told then."""


def _watch(principal: Principal, scope: Scope) -> Watch | None:
    services = services_of(scope)
    if principal.key_id is not None and services.keys is not None:
        return Watch(services.keys, principal.key_id, Unauthorized(KEY_ENDED))
    if principal.session_id is None or services.sessions is None:
        return None
    if is_of_accounts(scope, path_of(scope)):
        return None  # these are short, and some of them end the session that they are sent with
    return Watch(services.sessions.valid, principal.session_id, SessionEnded())


class Authentication:
    """Puts the `Principal` into the scope, or answers 401, 403, 429 or 503 instead of the app."""

    def __init__(
        self, app: ASGIApp, public: Callable[[Scope], bool] = is_public, set_user: bool = False
    ) -> None:
        """`public`: whether a request needs no authentication; `set_user`: also set `request.user` and `request.auth`."""
        self.app = app
        self._public = public
        self._set_user = set_user

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._public(scope):
            if (error := _of_foreign_login(scope)) is not None:
                await refuse(error, scope, receive, send)
            else:
                await self.app(scope, receive, send)
            return
        with ExitStack() as stack:
            try:
                principal = scope["principal"] = await authenticate(scope)
                if self._set_user:
                    user = principal.user
                    scope["user"] = user if user is not None else principal
                    permissions = user.permissions if user is not None else ["authenticated"]
                    scope["auth"] = AuthCredentials(permissions)
                told = await _take(scope, principal, stack)
            except ApiError as error:
                await refuse(_for_pages(error, scope), scope, receive, send)
                return
            except DATABASE_UNAVAILABLE as error:
                log.warning(
                    "the database does not say who may call",
                    extra={"event": "database.unavailable", "error": str(error)},
                )
                await refuse(DatabaseSilent(), scope, receive, send)
                return
            if told:
                send = _with_headers(send, told)
            with on_behalf_of(partial(allowed, principal), scope):
                watch = _watch(principal, scope)
                if watch is None:
                    await self.app(scope, receive, send)
                else:
                    await self._while_valid(watch, scope, receive, send)

    async def _while_valid(self, watch: Watch, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer until the key or the session is revoked or expires, in whose name that is done."""
        last: str | None = None

        async def watched(message: Message) -> None:
            nonlocal last
            last = message["type"]
            await send(message)

        try:
            async with asyncio.timeout(None) as request:
                with watch.valid.open(watch.credential_id, request):
                    await self.app(scope, receive, watched)
        except TimeoutError:
            if not request.expired():
                raise
            # A response that has begun is aborted: an end would say that there is no more.
            if last is None:
                await refuse(_for_pages(watch.ended, scope), scope, receive, send)
            elif scope["type"] == "websocket" and last != "websocket.close":
                error = Refusal.of(watch.ended)
                await send({"type": "websocket.close", "code": error.close_code, "reason": error.reason})


async def authenticate(scope: Scope) -> Principal:
    """The caller of a request. Raises Draining, Unauthorized, Forbidden, NotJson or RefusedByAuth."""
    services = services_of(scope)
    if services.runtime.closed and path_of(scope) not in WHEN_CLOSED:
        raise Draining
    principal = await allowed(await _caller(scope, services), scope)
    if (error := _of_foreign_page(scope, principal)) is not None:
        raise error
    headers = headers_for_graphs(scope)
    return replace(principal, headers=headers) if headers else principal


def _for_pages(error: ApiError, scope: Scope) -> ApiError:
    """The error with a code, where the gateway's pages look for one to know that their user has to log in."""
    if error.status != Unauthorized.status or error.code is not None:
        return error
    if path_of(scope).startswith(f"{GATEWAY}/") and Feature.GATEWAY in services_of(scope).features:
        error.code = NotAuthenticated.code
    return error


def _of_foreign_page(scope: Scope, principal: Principal) -> ApiError | None:
    """Why a request may not be what its caller wants, but what a page of another site has made their browser send."""
    listed = services_of(scope).listed
    if principal.by_cookie:
        of_api = entry_of(path_of(scope)) is not None
        return csrf.refusal_of_session(scope, principal.csrf, listed, of_api=of_api)
    # Without credentials, LoopbackOnly has refused pages of other sites.
    if principal.owner == LOCAL_OWNER or (error := csrf.refusal_of_others(scope, listed)) is None:
        return None
    # What its own routes accept, the project knows.
    return error if entry_of(path_of(scope)) is not None else None


def _of_foreign_login(scope: Scope) -> ApiError | None:
    """Why a public request may be another site's: those about accounts begin and end sessions."""
    if scope["type"] != "http" or not is_of_accounts(scope, path_of(scope)):
        return None
    return csrf.refusal_of_login(scope, services_of(scope).listed)


async def allowed(principal: Principal, scope: Scope) -> Principal:
    """The principal, if their key allows the request. Raises Forbidden."""
    identified(scope, principal)
    if principal.scopes is not EVERYTHING:
        principal.require(needed(scope["type"], scope.get("method", ""), path_of(scope)))
    return principal


async def caller_of(outer: Scope, scope: Scope) -> Principal:
    """Whoever sent the request `outer`, if they may send `scope`, too. Raises as `authenticate` does."""
    return await allowed(outer.get("principal") or await authenticate(outer), scope)


async def _take(scope: Scope, principal: Principal, stack: ExitStack) -> Mapping[str, str]:
    """Count a request as one of its owner's, and a stream until the `stack` is left; the headers that tell them what is left.

    Raises TooManyRequests, TooManyStreams.
    """
    path = path_of(scope)
    if path in WHEN_CLOSED:
        return {}  # it is answered without the database
    requests = services_of(scope).requests
    place = None
    kind, method = scope["type"], scope.get("method", "")
    # What a path ends with may be the name of a file: then its entry in the table ends otherwise.
    if stays_open(kind, method, path) and (
        (entry := entry_of(path)) is None or stays_open(kind, method, entry.path)
    ):
        place = stack.enter_context(requests.open.place(principal.owner))
    return await requests.take(principal.owner, place)


def _with_headers(send: Send, headers: Mapping[str, str]) -> Send:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *raw]}
        await send(message)

    return send_with_headers


def needed(kind: str, method: str, path: str) -> Permission:
    """What a request needs. `kind` is that of the ASGI scope; `path` is below the mount prefix.

    What is not in the table is a route of the custom app, or there is none.
    """
    known = permission_of(method if kind == "http" else WEBSOCKET, path)
    if known is not None:
        return known
    reads = kind == "http" and method in ("GET", "HEAD", "OPTIONS")
    return Permission.APP_READ if reads else Permission.APP_WRITE


async def _caller(scope: Scope, services: Services) -> Principal:
    """Who sends a request: the holder of its key; or whoever has logged in; or whom somebody else vouches for."""
    settings = services.settings
    headers = Headers(scope=scope)
    # In a container there is no authorizer in front.
    authorizer = settings.authorizer if settings.on_lambda else None
    # Without keys of ours, a header of that name may be meant for the project, or for nobody: the SDK takes one from its environment.
    secret = _key_of(scope, headers, services)
    if secret is not None and (settings.has_keys or services.auth is not None):
        if (holder := await _holder(secret, services)) is not None:
            return holder
        if services.auth is None:
            raise Unauthorized
    if (
        services.signing is not None
        and (named := await internal.caller(services.signing, headers)) is not None
    ):
        return named
    if services.sessions is not None:
        # Whoever else says who calls may have tokens of their own.
        others = services.auth is not None or authorizer is not None
        if (user := await services.sessions.caller(headers, lenient=others)) is not None:
            return user
    if services.auth is not None:
        return await services.auth.authenticate(scope)
    if authorizer is not None:
        if (owner := caller(scope, authorizer)) is not None:
            return Principal(owner)
        raise Unauthorized("The authorizer in front of this server does not identify the caller.")
    if services.sessions is not None:
        raise NotAuthenticated
    if settings.has_keys or settings.on_lambda:
        raise Unauthorized  # behind a gateway, no caller is on this machine
    # Without keys, LoopbackOnly has made sure that the caller is this machine.
    return Principal(LOCAL_OWNER)


def _key_of(scope: Scope, headers: Headers, services: Services) -> str | None:
    """The key that a request was sent with: below `/api` also in the header in which DeerFlow's own channels have one."""
    if (key := headers.get("x-api-key")) is not None or Feature.GATEWAY not in services.features:
        return key
    return headers.get(INTERNAL_TOKEN) if path_of(scope).startswith(f"{GATEWAY}/") else None


async def _holder(secret: str, services: Services) -> Principal | None:
    """Who holds a key."""
    if (owner := find_owner(services.settings.api_keys, secret)) is not None:
        return Principal(owner)
    return await services.keys.holder(secret) if services.keys is not None else None
