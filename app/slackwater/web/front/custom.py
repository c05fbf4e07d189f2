"""The project's own Starlette or FastAPI application (`http.app`): its routes, its middleware, its lifespan.

```
its middleware ─▶ /ok, /metrics, /docs … ─▶ the API    (nobody may put himself in their place)
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
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Match, Mount, NoMatchFound, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slackwater.errors import GraphImportError
from slackwater.web.scope import OUTER, path_of, services_of

log = logging.getLogger(__name__)

CANCEL_SECONDS = 0.1
"""What a lifespan that was cancelled has to unwind, at most."""

_ANSWER = "slackwater.answer"
_OF_THE_REQUEST = frozenset(
    {"method", "path", "raw_path", "query_string", "headers", "client", "scheme", "server", "principal"}
)
"""What middleware may have changed for us. The rest of the scope belongs to the application that is asked."""


@dataclass(frozen=True, slots=True)
class Own:
    """A project's own application that has been started."""

    app: Starlette
    state: Mapping[str, Any]
    """What its lifespan gave."""
    answering: set[asyncio.Task[Any]] = field(default_factory=set)
    """The server's tasks for the requests that it has before it."""


def does_not_start(source: str, part: str, error: BaseException) -> GraphImportError:
    """What ends the start of the process."""
    last = traceback.format_exception_only(error)[-1].strip()
    failure = GraphImportError(f"http.app ({source}): its {part} does not start: {last}")
    failure.__cause__ = error
    return failure


class CustomLifespan:
    """Its lifespan, in a task of its own: what was entered in a task has to be left in it, as anyio wants it."""

    def __init__(self, app: Starlette, source: str) -> None:
        self._app = app
        self._source = source
        self._leave = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def enter(self) -> Mapping[str, Any]:
        """The state that it gives. Raises GraphImportError when it fails."""
        entered: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._live(entered), name="http.app")
        try:
            return await asyncio.shield(entered)
        except asyncio.CancelledError:
            self._task.cancel()
            raise

    async def leave(self, seconds: float) -> None:
        """Leave it, within `seconds`; then it is cancelled. May be called again."""
        task, self._task = self._task, None
        if task is None:
            return
        self._leave.set()
        done, _ = await asyncio.wait({task}, timeout=max(seconds - CANCEL_SECONDS, 0.0))
        if not done:
            log.warning("http.app takes too long to shut down", extra={"event": "custom.overrun"})
            task.cancel()
            await asyncio.wait({task}, timeout=CANCEL_SECONDS)

    async def _live(self, entered: asyncio.Future[dict[str, Any]]) -> None:
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


class Custom:
    """The application, as ASGI middleware around `app`, which is the API with whatever guards it."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        own: Own,
        api: Router,
        reserved: Collection[str],
        inside: Collection[Middleware] = (),
    ) -> None:
        """`api`: the API's routes; `reserved`: paths that are always its; `inside`: what comes between the
        application's middleware and all routes."""
        self.app = app
        self._own = own
        self._stack = self._combine(own.app, api, reserved, inside)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        answer = _Answer(send)
        # A state of its own: whatever it calls `services` there is not ours.
        inner = {**scope, "state": dict(self._own.state), OUTER: scope, _ANSWER: answer}
        task = asyncio.current_task()
        assert task is not None
        self._own.answering.add(task)
        try:
            await self._stack(inner, receive, answer.send)
        except asyncio.CancelledError:
            if not services_of(scope).runtime.closed:
                raise
            # The server waits no longer for an answer that does not end: it is no run's, and nobody lacks it.
            log.info(
                "a response of http.app was aborted", extra={"event": "custom.cut", "path": scope["path"]}
            )
        finally:
            self._own.answering.discard(task)

    async def _api(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer: _Answer = scope[_ANSWER]
        begun = complete = False

        async def watched(message: Message) -> None:
            nonlocal begun, complete
            begun = True
            complete = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        try:
            await self.app(_ours(scope), receive, watched)
        finally:
            answer.cut = scope["type"] == "http" and begun and not complete

    def _combine(
        self, own: Starlette, api: Router, reserved: Collection[str], inside: Collection[Middleware]
    ) -> ASGIApp:
        # A copy, as the lifespan may be entered again in this process, and would find what we had put into it.
        router = copy.copy(own.router)
        router.middleware_stack = router.app
        router.routes = [
            _Ours(self._api, lambda scope: path_of(scope) in reserved),
            *own.router.routes,
            # Before the router says 405 because only the path is one of its own.
            _Ours(self._api, lambda scope: takes(api.routes, _ours(scope))),
        ]
        router.default = self._api
        combined = copy.copy(own)
        combined.router = router
        combined.user_middleware = [*own.user_middleware, *inside]
        combined.middleware_stack = combined.build_middleware_stack()  # now, and not with the first request
        return combined


def takes(routes: Collection[BaseRoute], scope: Scope) -> bool:
    """Whether one of the routes answers the request."""
    return any(route.matches(dict(scope))[0] is Match.FULL for route in routes)


def warnings(own: Starlette, *, ours: bool) -> list[str]:
    """What is perhaps not meant so; `ours`: the server's CORS is not the default."""
    found = []
    if any(isinstance(route, Mount) and not route.path for route in own.routes):
        found.append("app mounts something at /, which hides the whole API: mount it at a path of its own.")
    if not ours and CORSMiddleware in [getattr(entry, "cls", None) for entry in own.user_middleware]:
        found.append(
            "app has CORSMiddleware, and the server's own, which lets in every origin, is around it: say in http.cors what "
            "it is to be, and take that of app out."
        )
    return found


def _ours(scope: Scope) -> Scope:
    """The scope for the API: as it came, but for what the application's middleware has changed in the request."""
    return {**scope[OUTER], **{key: scope[key] for key in _OF_THE_REQUEST if key in scope}}


class _Answer:
    """What goes out. A stream that we cut off stays cut off.

    `BaseHTTPMiddleware` ends every answer properly, also one that was not: the client would take the run for ended, where it
    has to come back for the rest.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self.cut = False

    async def send(self, message: Message) -> None:
        if self.cut and message["type"] == "http.response.body" and not message.get("more_body", False):
            return
        await self._send(message)


class _Ours(BaseRoute):
    """Leads from the application's router to the API."""

    def __init__(self, api: ASGIApp, is_ours: Callable[[Scope], bool]) -> None:
        self._api = api
        self._is_ours = is_ours

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return (Match.FULL if self._is_ours(scope) else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._api(scope, receive, send)

    def url_path_for(self, name: str, /, **path_params: Any) -> Any:
        raise NoMatchFound(name, path_params)
