"""Asks a project's `Auth` object: who calls, and what the caller may do."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Mapping
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Scope

from slackwater.errors import AuthBroken, Forbidden, GraphImportError, RefusedByAuth
from slackwater.identity.custom.filters import Filter, checked
from slackwater.identity.custom.user import USER_OWNER, User, user_of
from slackwater.identity.principal import Principal
from slackwater.identity.scopes import KeyScope, granted
from slackwater.kit.threads import Threads

if TYPE_CHECKING:
    from langgraph_sdk import Auth

log = logging.getLogger(__name__)

SECONDS = 30.0
"""How long the project's code may take, each time it is asked."""

THREADS = 16
"""Those of sync `authenticate` functions. One that does not come back in time is left behind, and replaced."""

SCOPES = granted([KeyScope.RUN])
"""A project's users are clients: what all of them do together, as `/metrics` has it, is none of their business."""

Resource = Literal["threads", "assistants", "crons", "store"]
Action = Literal[
    "create", "read", "update", "delete", "search", "create_run", "put", "get", "list_namespaces"
]
"""What handlers are told of a request. Runs are a matter of their threads."""

PARAMETERS = frozenset(
    {
        "request",
        "body",
        "user",
        "path",
        "method",
        "scopes",
        "path_params",
        "query_params",
        "headers",
        "authorization",
        "scope",
    }
)
"""Those that `authenticate` may have, as on the official server. There `body` is never given; here neither."""


class CustomAuth:
    """A project's `Auth` object."""

    def __init__(self, auth: Auth, source: str) -> None:
        """Raises GraphImportError, which says what is wrong with the object at `source`."""
        from langgraph_sdk import Auth

        if not isinstance(auth, Auth):
            raise GraphImportError(f"auth ({source}): {type(auth).__name__} is not a langgraph_sdk.Auth.")
        handler = auth._authenticate_handler
        if handler is None:
            raise GraphImportError(f"auth ({source}): it has no @auth.authenticate, so nobody could call.")
        self._auth = auth
        self._source = source
        self._handler: Callable[..., Any] = handler
        self._parameters = _parameters(handler, source)
        self._is_async = inspect.iscoroutinefunction(handler)
        self._threads: Threads | None = None
        self._refusal = Auth.exceptions.HTTPException
        self._context = Auth.types.AuthContext

    async def authenticate(self, scope: Scope) -> Principal:
        """The caller of a request or a WebSocket. Raises RefusedByAuth, and AuthBroken if the project's code fails."""
        try:
            async with asyncio.timeout(SECONDS):
                user = user_of(await self._ask(_arguments(scope, self._parameters)))
        except self._refusal as refusal:
            raise _refused(refusal) from None
        except HTTPException as refusal:  # Starlette's and FastAPI's
            raise _refused(refusal) from None
        except Exception as error:
            raise self._failed("authenticate", error) from error
        return Principal(f"{USER_OWNER}{user.identity}", scopes=SCOPES, user=user)

    def close(self) -> None:
        """End its threads. Nobody waits for a function that still runs in one."""
        if self._threads is not None:
            self._threads.close()

    async def decide(
        self, user: User, resource: Resource, action: Action, value: dict[str, Any]
    ) -> Filter | None:
        """What the most specific handler says: a filter, or None for yes. It may change `value`.

        Raises RefusedByAuth, and AuthBroken if the project's code fails.
        """
        handler = self._handler_of(resource, action)
        if handler is None:
            return None
        about: dict[str, Any] = {"user": user, "permissions": user.permissions}
        context = self._context(**about, resource=resource, action=action)
        try:
            async with asyncio.timeout(SECONDS):
                answer = await handler(ctx=context, value=value)
            if answer is None or answer is True:
                return None
            if answer is False:
                raise RefusedByAuth
            return checked(answer)
        except (self._refusal, HTTPException) as refusal:
            raise _refused(refusal) from None
        except AssertionError as error:
            raise RefusedByAuth(str(error) or None) from None
        except RefusedByAuth:
            raise
        except Exception as error:
            raise self._failed(f"on {resource} {action}", error) from error

    def _handler_of(self, resource: str, action: str) -> Callable[..., Any] | None:
        handlers = self._auth._handlers
        for key in ((resource, action), (resource, "*"), ("*", action), ("*", "*")):
            if found := handlers.get(key):
                return found[-1]
        return self._auth._global_handlers[-1] if self._auth._global_handlers else None

    async def _ask(self, arguments: Mapping[str, Any]) -> object:
        if self._is_async:
            return await self._handler(**arguments)
        if self._threads is None:
            self._threads = Threads("authenticate", THREADS, THREADS)
        work: Callable[[], object] = partial(copy_context().run, partial(self._handler, **arguments))
        whose = object()
        try:
            answer = await asyncio.wrap_future(self._threads.submit(whose, work))
        finally:
            self._threads.leave(whose)
        return await answer if inspect.isawaitable(answer) else answer

    def _failed(self, what: str, error: Exception) -> AuthBroken:
        """Told in the log only: what fails may quote a credential."""
        sentence = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
        log.error(
            "auth (%s): %s failed: %s",
            self._source,
            what,
            sentence,
            exc_info=error,
            extra={"event": "auth.failed"},
        )
        return AuthBroken()


def _parameters(handler: Callable[..., Any], source: str) -> frozenset[str]:
    """Those of `authenticate` that it is given. Raises GraphImportError for one that nothing can be given for."""
    found = set()
    for name, parameter in inspect.signature(handler).parameters.items():
        if name in PARAMETERS and name != "body":
            found.add(name)
        elif parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_KEYWORD,
            parameter.VAR_POSITIONAL,
        ):
            why = (
                "the body is not read before the caller is known"
                if name == "body"
                else f"use {', '.join(sorted(PARAMETERS - {'body'}))}"
            )
            raise GraphImportError(f"auth ({source}): authenticate asks for {name!r}: {why}.")
    return frozenset(found)


def _arguments(scope: Scope, names: frozenset[str]) -> dict[str, Any]:
    """What `authenticate` asks for. A WebSocket's handshake is a GET."""
    headers = dict(scope["headers"])
    method = scope.get("method", "GET")
    found: dict[str, Any] = {}
    for name in names:
        match name:
            case "request":
                found[name] = Request({**scope, "type": "http", "method": method})
            case "scope":
                found[name] = scope
            case "path":
                found[name] = scope["path"]
            case "method":
                found[name] = method
            case "path_params":
                found[name] = scope.get("path_params", {})
            case "query_params":
                found[name] = QueryParams(scope.get("query_string", b""))
            case "headers":
                found[name] = headers
            case "authorization":
                given = headers.get(b"authorization")
                found[name] = None if given is None else given.decode("utf-8", "replace")
            case "user":
                found[name] = scope.get("user")
            case "scopes":
                found[name] = getattr(scope.get("auth"), "scopes", [])
    return found


def _refused(refusal: Any) -> RefusedByAuth:
    status = refusal.status_code
    if not isinstance(status, int) or not 400 <= status <= 599:
        status = Forbidden.status
    return RefusedByAuth(str(refusal.detail), status, refusal.headers)
