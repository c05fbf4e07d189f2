"""The project's custom app (`http.app`), Starlette or FastAPI: its routes, its middleware, its lifespan.

```
its middleware ─▶ /ok, /metrics, /docs … ─▶ the API    (cannot be overridden)
                ─▶ its routes
                ─▶ the API
```
"""

from __future__ import annotations

import asyncio
import copy
import logging
import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Match, Mount, NoMatchFound, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slackwater.errors import GraphImportError
from slackwater.identity.middleware import caller_of
from slackwater.web.in_process import on_behalf_of
from slackwater.web.scope import OUTER, services_of
from slackwater.web.security_headers import of_custom_app

log = logging.getLogger(__name__)

CANCEL_SECONDS = 0.1
"""How long a cancelled lifespan may take to unwind."""

_SENDER = "slackwater.answer"
_REQUEST_KEYS = frozenset(
    {"method", "path", "raw_path", "query_string", "headers", "client", "scheme", "server", "principal"}
)
"""What the custom app's middleware may change for the API. The rest of the scope belongs to the app that is called."""


def does_not_start(source: str, part: str, error: BaseException) -> GraphImportError:
    """The error that ends the start of the process."""
    last = traceback.format_exception_only(error)[-1].strip()
    failure = GraphImportError(f"http.app ({source}): its {part} does not start: {last}")
    failure.__cause__ = error
    return failure


class CustomAppLifespan:
    """Its lifespan, in a task of its own: anyio requires that what is entered in a task is left in the same task."""

    def __init__(self, app: Starlette, source: str) -> None:
        self._app = app
        self._source = source
        self._leave = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def enter(self) -> Mapping[str, Any]:
        """Enter it and return its state. Raises GraphImportError when it fails."""
        entered: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(entered), name="http.app")
        try:
            return await asyncio.shield(entered)
        except asyncio.CancelledError:
            self._task.cancel()
            raise

    async def leave(self, seconds: float) -> None:
        """Leave it within `seconds`, after which it is cancelled. May be called again."""
        task, self._task = self._task, None
        if task is None:
            return
        self._leave.set()
        done, _ = await asyncio.wait({task}, timeout=max(seconds - CANCEL_SECONDS, 0.0))
        if not done:
            log.warning("http.app takes too long to shut down", extra={"event": "custom.overrun"})
            task.cancel()
            await asyncio.wait({task}, timeout=CANCEL_SECONDS)

    async def _run(self, entered: asyncio.Future[dict[str, Any]]) -> None:
        try:
            async with self._app.router.lifespan_context(self._app) as state:
                entered.set_result(dict(state or {}))
                await self._leave.wait()
        except asyncio.CancelledError as error:
            if not entered.done():
                entered.set_exception(does_not_start(self._source, "lifespan", error))
            raise
        except (Exception, SystemExit) as error:
            if entered.done():
                log.exception("the lifespan of http.app failed", extra={"event": "custom.failed"})
                return
            entered.set_exception(does_not_start(self._source, "lifespan", error))


@dataclass(frozen=True, slots=True)
class CustomApp:
    """A custom app that has been started."""

    app: Starlette
    lifespan: CustomAppLifespan
    state: Mapping[str, Any]
    """The state that its lifespan yielded."""
    in_flight: set[asyncio.Task[Any]] = field(default_factory=set)
    """The server's tasks for the requests in flight in it."""


class CustomAppMiddleware:
    """The custom app as ASGI middleware around `app`, which is the API behind its own middleware."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        custom: CustomApp,
        api: Router,
        reserved: Callable[[Scope], bool],
        inside: Collection[Middleware] = (),
    ) -> None:
        """`api`: the API's routes; `reserved`: whether a request always belongs to the API; `inside`: middleware between the custom
        app's own middleware and all routes."""
        self.app = app
        self._custom = custom
        self._stack = self._combine(custom.app, api, reserved, inside)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        sender = _Sender(send)
        # A state of its own: whatever it stores there as `services` does not replace ours.
        inner = {**scope, "state": dict(self._custom.state), OUTER: scope, _SENDER: sender}
        task = asyncio.current_task()
        assert task is not None
        self._custom.in_flight.add(task)
        try:
            # Its routes may be open to everybody: then only a call that needs to know who calls asks for it.
            with on_behalf_of(partial(caller_of, scope), scope):
                await self._stack(inner, receive, sender.send)
        except asyncio.CancelledError:
            if not services_of(scope).runtime.closed:
                raise
            # A response that does not end in time is aborted: no run depends on it.
            log.info(
                "a response of http.app was aborted", extra={"event": "custom.cut", "path": scope["path"]}
            )
        finally:
            self._custom.in_flight.discard(task)

    async def _api(self, scope: Scope, receive: Receive, send: Send) -> None:
        sender: _Sender = scope[_SENDER]
        begun = complete = False

        async def watched(message: Message) -> None:
            nonlocal begun, complete
            begun = sender.of_api = True
            complete = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        try:
            await self.app(_api_scope(scope), receive, watched)
        finally:
            sender.cut = scope["type"] == "http" and begun and not complete

    def _combine(
        self,
        custom: Starlette,
        api: Router,
        reserved: Callable[[Scope], bool],
        inside: Collection[Middleware],
    ) -> ASGIApp:
        # A copy: the lifespan may be entered again in this process, and must not find our changes.
        router = copy.copy(custom.router)
        router.middleware_stack = router.app
        router.routes = [
            _ApiRoute(self._api, reserved),
            *custom.router.routes,
            # Before the router answers 405 because only the path matches one of the custom routes.
            _ApiRoute(self._api, lambda scope: matches(api.routes, _api_scope(scope))),
        ]
        router.default = self._api
        combined = copy.copy(custom)
        combined.router = router
        combined.user_middleware = [*custom.user_middleware, *inside]
        combined.middleware_stack = combined.build_middleware_stack()  # now, not with the first request
        return combined


def matches(routes: Collection[BaseRoute], scope: Scope) -> bool:
    """Whether one of the routes fully matches the request."""
    return any(route.matches(dict(scope))[0] is Match.FULL for route in routes)


def warnings(custom: Starlette, *, ours: bool) -> list[str]:
    """Likely mistakes; `ours`: whether the server's own CORS is configured."""
    found = []
    if any(isinstance(route, Mount) and not route.path for route in custom.routes):
        found.append("app mounts something at /, which hides the whole API: mount it at a path of its own.")
    if not ours and CORSMiddleware in [getattr(entry, "cls", None) for entry in custom.user_middleware]:
        found.append(
            "app has CORSMiddleware, and the server's own, which lets in every origin, is around it: say in http.cors what "
            "it is to be, and take that of app out."
        )
    return found


def _api_scope(scope: Scope) -> Scope:
    """The scope for the API: the original one, with the changes that the custom app's middleware made to the request."""
    return {**scope[OUTER], **{key: scope[key] for key in _REQUEST_KEYS if key in scope}}


class _Sender:
    """Sends the response, and says whose it is. A stream that was cut stays cut.

    `BaseHTTPMiddleware` ends every response cleanly, even one that was cut: the client would take the run for ended, while
    it has to reconnect for the rest.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self.cut = False
        self.of_api = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and not self.of_api:
            message = of_custom_app(message)
        if self.cut and message["type"] == "http.response.body" and not message.get("more_body", False):
            return
        await self._send(message)


class _ApiRoute(BaseRoute):
    """Routes from the custom app's router to the API."""

    def __init__(self, api: ASGIApp, is_for_api: Callable[[Scope], bool]) -> None:
        self._api = api
        self._is_for_api = is_for_api

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return (Match.FULL if self._is_for_api(scope) else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._api(scope, receive, send)

    def url_path_for(self, name: str, /, **path_params: Any) -> Any:
        raise NoMatchFound(name, path_params)
