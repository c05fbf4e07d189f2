"""One execution environment: one event loop, one lifespan, and one invocation at a time.

```
init ── start ─┬─ invocation: open window → respond ─┬─ after: let runs finish or hand them over ─┬─ frozen … ─┬─ stop
               └──────────────── for each invocation ─┴────────────────────────────────────────────┘
```
The lifespan is entered once and left once. Entered for each invocation, it would close the pool under runs that continue.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from slackwater import telemetry
from slackwater.errors import ExitCode, StartError
from slackwater.telemetry import metrics
from slackwater.telemetry.metrics import Metric
from slackwater_lambda import observability
from slackwater_lambda.invocation import Invocation

if TYPE_CHECKING:
    from fastapi import FastAPI

    from slackwater.services import Services

T = TypeVar("T")

log = logging.getLogger(__name__)

OPEN_SECONDS = 20.0
"""How long a request waits for the start. Its gateway allows 29 s; then the client is told to retry, and the start goes on."""

START_SECONDS = 8.0
"""Lambda allows ten for initialisation. If the start takes longer, the first invocation tries again."""

THAW_SECONDS = 20.0
"""After an idle time this long, pooled sockets may be dead without showing it: they are replaced before use."""

SIGTERM_SECONDS = 0.35
"""Lambda gives an environment with an internal extension 500 ms. The rest is for the process to exit."""

STUCK_SECONDS = 2.0
"""How long an environment that must not be frozen may take to exit. Its runs have already been asked to stop."""

LAST_RESPONSE_SECONDS = 0.1
"""Reserved after SIGTERM for the release, while the last responses are sent."""

RESPONSE_SECONDS = 0.2
"""A response must be on its way this long before the deadline."""

ARRIVAL_SECONDS = 3.0
"""How long the extension waits for the handler to receive the same invocation. Both are notified at the same moment."""

OVERRUN_SECONDS = 0.05
"""A drain is abandoned this long after its deadline."""


class StillStarting(StartError):
    """The server is still starting: the next request waits for the same start."""


class Environment:
    """One per process. Called from the runtime's thread, the extension's thread and the SIGTERM thread."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self.extension_registered = False
        """The extension keeps the environment awake after the response."""
        self._loop = asyncio.new_event_loop()
        self._services: Services | None = None
        self._lifespan: asyncio.Task[None] | None = None
        self._started: asyncio.Future[Services] | None = None
        self._exit_requested: asyncio.Event | None = None
        self._current: Invocation | None = None
        self._arrival = threading.Condition()
        self._missed = ""
        """The id of the last invocation that the extension did not wait for."""
        self._last_active = time.time()
        self._exit_code = ExitCode.CLEAN
        threading.Thread(target=self._loop.run_forever, name="loop", daemon=True).start()

    # Lifecycle

    @property
    def services(self) -> Services:
        """What the lifespan opened. Only inside an invocation."""
        assert self._services is not None
        return self._services

    def run(self, coroutine: Coroutine[Any, Any, T], seconds: float) -> T:
        """Run the coroutine in the event loop and wait at most `seconds`. Raises TimeoutError; the coroutine then continues."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(max(seconds, 0.0))

    def start(self, seconds: float = START_SECONDS) -> None:
        """Enter the lifespan, unless it has been entered. Raises StartError; the next call tries again."""
        if self._services is None:
            self.run(self._enter(), seconds)

    async def _enter(self) -> None:
        # A start that outlasts its caller continues, and the next caller waits for the same one.
        if self._lifespan is None or self._started is None or self._lifespan.done():
            self._started, self._exit_requested = self._loop.create_future(), asyncio.Event()
            self._lifespan = asyncio.create_task(
                self._run_lifespan(self._started, self._exit_requested), name="lifespan"
            )
        self._services = await asyncio.shield(self._started)

    async def _run_lifespan(self, started: asyncio.Future[Services], exit_requested: asyncio.Event) -> None:
        try:
            async with self.app.router.lifespan_context(self.app) as state:
                assert state is not None
                started.set_result(state["services"])
                await exit_requested.wait()
        except Exception as problem:
            if started.done():
                raise
            started.set_exception(problem)

    async def _exit(self, reason: str, seconds: float) -> None:
        """Leave the lifespan: drain, settle, release."""
        if self._services is None or self._lifespan is None or self._exit_requested is None:
            return
        stop = self._services.stop
        await stop.drain(reason, seconds)
        assert stop.budget is not None
        if self._current is not None:
            # Responses whose runs have been handed over end now, and can still be sent.
            await self._current.wait_for_requests(stop.budget.left() - LAST_RESPONSE_SECONDS)
        self._exit_requested.set()
        await asyncio.wait({self._lifespan})
        self._services = None
        self._exit_code = stop.exit_code

    def stop(self, reason: str = "SIGTERM", seconds: float = SIGTERM_SECONDS) -> None:
        """Drain and end the process within about `seconds`. Does not return."""
        try:
            self.run(self._exit(reason, seconds), seconds + OVERRUN_SECONDS)
        except Exception as problem:
            # A node blocks the event loop. Its lease expires soon after the invocation's deadline.
            metrics.count(Metric.DRAIN_OVERRUN)
            log.error("not drained: %r", problem, extra={"event": "drain.overrun"})
        finally:
            telemetry.flush()
            # Not sys.exit: the interpreter would wait for the runtime client's thread until Lambda kills it.
            os._exit(self._exit_code)

    def suspend(self) -> None:
        """Before a snapshot: close everything that its copies would share."""
        self.run(self._exit("snapshot", START_SECONDS), START_SECONDS)
        telemetry.flush()  # or each copy would report it again

    def resume(self) -> None:
        """After a restore: enter a new lifespan, under a new worker id. Raises nothing.

        Lambda repeats a restore that fails, and it would fail again for the same reason. So without a database, or with the
        wrong schema, the copy answers 503, and each invocation tries again.
        """
        try:
            self.start()
        except Exception as problem:
            log.error(
                "not started after a restore: %s",
                str(problem) or "it took too long",
                exc_info=None if isinstance(problem, StartError | TimeoutError) else problem,
                extra={"event": "start.failed"},
            )

    # Invocations

    @contextmanager
    def invocation(self, context: Any) -> Iterator[Invocation]:
        """One invocation. Without an extension it ends, with its runs, before the response is sent."""
        invocation = Invocation.of(context)
        observability.begin(invocation)
        with self._arrival:
            self._current = invocation
            holds = self.extension_registered and self._missed != invocation.request_id
            self._arrival.notify_all()
        try:
            yield invocation
        finally:
            invocation.answered.set()
            if not holds:
                self.end(invocation)

    def open(self, invocation: Invocation) -> None:
        """Open the invocation's window: from now on runs may execute. Raises StartError."""
        try:
            self.start(min(invocation.left() - RESPONSE_SECONDS, OPEN_SECONDS))
        except TimeoutError:
            raise StillStarting from None
        self.run(self._open(invocation), invocation.left() - RESPONSE_SECONDS)

    def after_response(self, request_id: str, deadline: float) -> None:
        """The extension's part of an invocation: wait for the response, then let its runs finish or hand them over."""
        with self._arrival:
            # The runtime's thread may not have received it yet. An event that the runtime client cannot parse never arrives.
            seconds = min(deadline - time.monotonic(), ARRIVAL_SECONDS)
            if not self._arrival.wait_for(lambda: self._is_current(request_id), seconds):
                self._missed = request_id
            invocation = self._current
        if invocation is not None and invocation.request_id == request_id:
            invocation.answered.wait(invocation.left())
            self.end(invocation)

    def _is_current(self, request_id: str) -> bool:
        return self._current is not None and self._current.request_id == request_id

    async def _open(self, invocation: Invocation) -> None:
        services = self.services
        if time.time() - self._last_active > THAW_SECONDS:
            await services.database.refresh()
        if services.configuration is not None:
            await services.configuration.refresh()
        invocation.open(services.runtime, services.settings)

    def end(self, invocation: Invocation) -> None:
        """Close the window. Returns when the environment may be frozen; ends the process if it must not be."""
        try:
            if not self.run(invocation.close(), invocation.left() - OVERRUN_SECONDS):
                self.stop("stuck", max(min(invocation.left(), STUCK_SECONDS), SIGTERM_SECONDS))
        except TimeoutError:
            # A node blocks the event loop. If the environment were frozen now, the next invocation would wait for that node too.
            metrics.count(Metric.DRAIN_OVERRUN)
            log.error("an invocation outlived its deadline", extra={"event": "invocation.overrun"})
            telemetry.flush()
            os._exit(ExitCode.RUNS_LEFT)
        finally:
            observability.end(invocation)
            self._last_active = time.time()
