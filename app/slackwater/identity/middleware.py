"""The door: who may come in, and what a stopping process answers."""

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
from slackwater.web.route_table import PUBLIC, TO_THE_END
from slackwater.web.scope import path_of, services_of


def is_public(scope: Scope) -> bool:
    """Whether anybody is answered."""
    return path_of(scope) in PUBLIC


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
            except ApiError as error:
                await refuse(error, scope, receive, send)
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
            caller(scope, authorizer),
            Unauthorized("The authorizer in front of this server does not identify the caller."),
        )
    if settings.on_lambda:
        raise Unauthorized  # behind a gateway nobody is this machine
    # Without keys everybody whom the guard in front has let in is this machine.
    return Principal(LOCAL_OWNER)


def _known(owner: str | None, refusal: Unauthorized) -> Principal:
    if owner is None:
        raise refusal
    return Principal(owner)
