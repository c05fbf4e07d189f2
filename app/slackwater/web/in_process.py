"""Requests that come from this process: `get_client()` without a URL, in the project's own code.

Each is made on behalf of the owner of the run, or of the caller of the request, that the code works for. It enters behind the
middleware, with its principal in the scope: nothing from a network can come this way, and no header says who calls.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from dataclasses import dataclass, replace
from functools import cache, partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Message, Scope

from slackwater.errors import ApiError, Draining, NoCaller
from slackwater.identity.custom.user import USER_OWNER, User
from slackwater.identity.principal import Principal
from slackwater.identity.scopes import KeyScope, granted
from slackwater.kit.imports import after_import
from slackwater.kit.refusal import Refusal
from slackwater.runtime.events.run_reader import reads_within
from slackwater.web.scope import headers_for_graphs, services_of

if TYPE_CHECKING:
    from slackwater.runtime.execution.own_calls import CallingRun
    from slackwater.services import Services

log = logging.getLogger(__name__)


Identify = Callable[[Scope], Awaitable[Principal]]
"""Who sends a request from within. Raises ApiError if nobody has said so, or if they may not send it."""


@dataclass(frozen=True, slots=True)
class Requester:
    """On whose behalf the running code calls."""

    api: InProcess
    identify: Identify
    may_call: Callable[[], bool]
    """Contexts are inherited by whatever is started in them, and much of that outlives what it was started for."""
    stops: Callable[[], bool]
    """Whether the run was asked to stop here, or the process was."""


current_requester: ContextVar[Requester | None] = ContextVar("current_requester", default=None)


@contextmanager
def on_behalf_of(identify: Identify, scope: Scope) -> Iterator[None]:
    """While a request is handled, the project's own code calls on behalf of its caller."""
    services, going_on = services_of(scope), True
    requester = Requester(services.in_process, identify, lambda: going_on, lambda: services.runtime.draining)
    token = current_requester.set(requester)
    try:
        yield
    finally:
        going_on = False
        current_requester.reset(token)


class InProcess:
    """Carries out the requests, each in a task of its own in the loop in which this was made."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._api: ASGIApp | None = None
        self._services: Services | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self, api: ASGIApp, services: Services) -> None:
        """Serve from now on."""
        self._api, self._services = api, services

    async def close(self, timeout: float) -> None:
        """Refuse what comes, and cut what is in flight; wait `timeout` seconds at most for that."""
        self._api = None
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=max(0.0, timeout))

    def act_for(self, run: CallingRun) -> None:
        """From now on, the running context, and what inherits it, calls on behalf of the run's owner."""
        from slackwater.identity.middleware import allowed  # which imports this module

        user = User(run.user) if run.user is not None else None
        # On a shared thread it is not the thread's owner who has started the run.
        name = run.owner if user is None else f"{USER_OWNER}{user.identity}"
        owner = Principal(name, scopes=granted([KeyScope.RUN]), user=user)
        weak = weakref.ref(run)  # it has the context that this is put into

        def may_call() -> bool:
            return (run := weak()) is not None and run.may_call

        def stops() -> bool:
            return (run := weak()) is not None and run.stops

        current_requester.set(Requester(self, partial(allowed, owner), may_call, stops))

    # Called in any loop

    def begin(self, exchange: Exchange) -> None:
        """Carry out a request. Raises Draining when the loop is gone."""
        self._do(self._begin, exchange)

    def taken(self, exchange: Exchange) -> None:
        """Whoever asked has taken a message."""
        self._do(exchange.room.set)

    def left(self, exchange: Exchange) -> None:
        """Whoever asked wants no more of it."""
        self._do(exchange.leave)

    def _do(self, act: Callable[..., None], *args: Any) -> None:
        if _is_running(self._loop):
            act(*args)
            return
        try:
            self._loop.call_soon_threadsafe(act, *args)
        except RuntimeError:  # it is closed
            raise Draining from None

    # In the loop

    def _begin(self, exchange: Exchange) -> None:
        services = self._services
        if self._api is None or services is None or services.runtime.closed:
            exchange.refuse(Draining())
            return
        exchange.scope["state"] = {"services": services}
        # Nothing of the node's context: its tasks are counted and cut, and what a run would inherit is another run's.
        task = asyncio.create_task(
            self._serve(self._api, exchange), name=f"in process:{exchange.scope['path']}", context=Context()
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, api: ASGIApp, exchange: Exchange) -> None:
        scope, error = exchange.scope, None
        reads_within.set(True)
        try:
            principal = replace(await exchange.requester.identify(scope), headers=headers_for_graphs(scope))
            scope["principal"] = principal
            with on_behalf_of(exchange.requester.identify, scope):
                await api(scope, exchange.receive, exchange.send)
        except ApiError as problem:
            error = NoCaller(
                f"`get_client()` without a URL calls for the caller of this request. {problem.message}"
            )
        except Exception:
            log.exception(
                "a request from within this process failed",
                extra={"event": "in_process.failed", "path": scope["path"]},
            )
        finally:
            exchange.end(error)


class Exchange:
    """One request and its response, between the loop that asked and the one that serves, which may be the same."""

    def __init__(self, requester: Requester, scope: Scope, body: bytes) -> None:
        self.requester = requester
        self.scope = scope
        self.room = asyncio.Event()
        """What was sent last has been taken, or never will be. A reader that is slow holds up the sender, and not the memory."""
        self.room.set()
        self._body: bytes | None = body
        self._asker = asyncio.get_running_loop()
        self._messages: asyncio.Queue[Message | Exception | None] = asyncio.Queue()
        self._left = False
        self._disconnected = asyncio.Event()

    # For whoever asks, in their loop

    async def next(self) -> Message | None:
        """The next message of the response; None at its end, whether or not it was complete. Raises NoCaller and Draining."""
        message = await self._messages.get()
        if isinstance(message, Exception):
            raise message
        if message is not None:
            self.requester.api.taken(self)
        return message

    # For the API, as ASGI has it

    async def receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._disconnected.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        await self.room.wait()
        if not self._left:
            self.room.clear()
            self._put(message)

    # In the loop that serves

    def leave(self) -> None:
        self._left = True
        self.room.set()
        # Whoever is made to leave by a stop comes back: their run must not be cancelled for it.
        if not self.requester.stops():
            self._disconnected.set()

    def refuse(self, error: ApiError) -> None:
        refusal = Refusal.of(error)
        self._put({"type": "http.response.start", "status": refusal.status, "headers": refusal.raw_headers})
        self._put({"type": "http.response.body", "body": refusal.body})
        self.end(None)

    def end(self, error: Exception | None) -> None:
        self._put(error)

    def _put(self, message: Message | Exception | None) -> None:
        if _is_running(self._asker):
            self._messages.put_nowait(message)
            return
        try:
            self._asker.call_soon_threadsafe(self._messages.put_nowait, message)
        except RuntimeError:  # that loop is closed
            self.leave()


def _is_running(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the running code is in the loop."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


@cache
def offer_to_sdk() -> None:
    """Serve the SDK's clients without a URL, those made while a module is imported included. Imports nothing."""

    def offer(sdk: ModuleType) -> None:
        from slackwater.web.sdk_transport import offer

        offer(sdk)

    after_import("langgraph_sdk._async.client", offer)
