"""Authentication of requests. A process that has closed answers 503 to all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from starlette.authentication import AuthCredentials
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from slackwater.errors import ApiError, Draining, Unauthorized
from slackwater.identity.authorizer import caller
from slackwater.identity.keys import find_owner
from slackwater.identity.principal import LOCAL_OWNER, Principal
from slackwater.kit.refusal import refuse
from slackwater.kit.reserved import clean_headers
from slackwater.settings import Settings
from slackwater.web.route_table import PUBLIC, WHEN_CLOSED
from slackwater.web.scope import path_of, services_of


def is_public(scope: Scope) -> bool:
    """Whether the path needs no authentication."""
    return path_of(scope) in PUBLIC


class Authentication:
    """Puts the `Principal` into the scope, or answers 401, 403 or 503 instead of the app."""

    def __init__(
        self, app: ASGIApp, public: Callable[[Scope], bool] = is_public, set_user: bool = False
    ) -> None:
        """`public`: whether a request needs no authentication; `set_user`: also set `request.user` and `request.auth`."""
        self.app = app
        self._public = public
        self._set_user = set_user

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and not self._public(scope):
            try:
                principal = scope["principal"] = authenticate(scope)
                if self._set_user:
                    scope["user"], scope["auth"] = principal, AuthCredentials(["authenticated"])
            except ApiError as error:
                await refuse(error, scope, receive, send)
                return
        await self.app(scope, receive, send)


def authenticate(scope: Scope) -> Principal:
    """The caller of a request. Raises Draining, Unauthorized or Forbidden."""
    services = services_of(scope)
    if services.runtime.closed and path_of(scope) not in WHEN_CLOSED:
        raise Draining
    principal = _caller(scope, services.settings)
    wanted = services.graphs.http.configurable_headers
    return replace(principal, headers=clean_headers(wanted.pick(scope["headers"]))) if wanted else principal


def _caller(scope: Scope, settings: Settings) -> Principal:
    headers = Headers(scope=scope)
    # In a container there is no authorizer in front.
    authorizer = settings.authorizer if settings.on_lambda else None
    if settings.api_keys and (authorizer is None or "x-api-key" in headers):
        return _known(find_owner(settings.api_keys, headers.get("x-api-key", "")), Unauthorized())
    if authorizer is not None:
        return _known(
            caller(scope, authorizer),
            Unauthorized("The authorizer in front of this server does not identify the caller."),
        )
    if settings.on_lambda:
        raise Unauthorized  # behind a gateway, no caller is on this machine
    # Without keys, LoopbackOnly has made sure that the caller is this machine.
    return Principal(LOCAL_OWNER)


def _known(owner: str | None, refusal: Unauthorized) -> Principal:
    if owner is None:
        raise refusal
    return Principal(owner)
