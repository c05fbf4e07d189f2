"""One execution environment: one event loop, one lifespan, and one invocation at a time.

```
init ── start ─┬─ invocation: open window → answer ─┬─ after: let the runs end or hand them over ─┬─ frozen … ─┬─ stop
               └────────────── again and again ─────┴─────────────────────────────────────────────┘
```
The lifespan is entered once and left once: opened for each invocation it would close the pool under the runs that go on.
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
from slackwater_lambda import observation
from slackwater_lambda.invocation import Invocation

if TYPE_CHECKING:
    from fastapi import FastAPI

    from slackwater.services import Services

T = TypeVar("T")

log = logging.getLogger(__name__)

OPEN_SECONDS = 20.0
"""How long a request waits for the start. Its gateway gives it 29 s; then it is told to come again, and the start goes on."""

START_SECONDS = 8.0
"""Initialisation has ten; what has not been opened by then is tried again by the first invocation."""

THAW_SECONDS = 20.0
"""After so long a pause pooled sockets may be dead without a sign of it: they are replaced before they are used."""

SIGTERM_SECONDS = 0.35
"""Lambda leaves an environment with an internal extension 500 ms; the rest is for the process to go."""

STUCK_SECONDS = 2.0
"""How long an environment that may not be frozen may take to go. Its runs have been asked to stop already."""

LAST_ANSWER_SECONDS = 0.1
"""What is kept of the time after SIGTERM for the release, while the last answers leave."""

ANSWER_SECONDS = 0.2
"""So long before the deadline an answer has to be on its way."""

ARRIVAL_SECONDS = 3.0
"""Between the extension's event and the handler's: both get theirs at the same moment."""

OVERRUN_SECONDS = 0.05
"""So long after its deadline a drain is given up."""


class StillStarting(StartError):
    """The server has not started yet, and goes on: the next request waits for the same start."""


class Environment:
    """What lives as long as the process. Called from the runtime's thread, the extension's and the one of SIGTERM."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self.held = False
        """An extension keeps the environment awake after the response."""
        self._loop = asyncio.new_event_loop()
        self._services: Services | None = None
        self._life: asyncio.Task[None] | None = None
        self._opened: asyncio.Future[Services] | None = None
        self._leave: asyncio.Event | None = None
        self._current: Invocation | None = None
        self._arrival = threading.Condition()
        self._missed = ""
        """The last invocation that the extension has not waited for."""
        self._last_active = time.time()
        self._exit_code = ExitCode.CLEAN
        threading.Thread(target=self._loop.run_forever, name="loop", daemon=True).start()

    # Life

    @property
    def services(self) -> Services:
        """What the lifespan has opened. Only inside an invocation."""
        assert self._services is not None
        return self._services

    def run(self, coroutine: Coroutine[Any, Any, T], seconds: float) -> T:
        """Run it in the loop and wait, `seconds` at most. Raises TimeoutError, and it goes on then."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(max(seconds, 0.0))

    def start(self, seconds: float = START_SECONDS) -> None:
        """Enter the lifespan, unless that is done. Raises StartError; the next call tries again."""
        if self._services is None:
            self.run(self._enter(), seconds)

    async def _enter(self) -> None:
        # One that takes longer than whoever waits for it goes on, and the next one waits for the same.
        if self._life is None or self._opened is None or self._life.done():
            self._opened, self._leave = self._loop.create_future(), asyncio.Event()
            self._life = asyncio.create_task(self._live(self._opened, self._leave), name="lifespan")
        self._services = await asyncio.shield(self._opened)

    async def _live(self, opened: asyncio.Future[Services], leave: asyncio.Event) -> None:
        try:
            async with self.app.router.lifespan_context(self.app) as state:
                assert state is not None
                opened.set_result(state["services"])
                await leave.wait()
        except Exception as problem:
            if opened.done():
                raise
            opened.set_exception(problem)

    async def _exit(self, reason: str, seconds: float) -> None:
        """Leave the lifespan: drain, settle, release."""
        if self._services is None or self._life is None or self._leave is None:
            return
        stopping = self._services.stopping
        await stopping.stop(reason, seconds)
        assert stopping.budget is not None
        if self._current is not None:
            # Answers whose runs have been handed over end now, and can still leave.
            await self._current.quiet(stopping.budget.left() - LAST_ANSWER_SECONDS)
        self._leave.set()
        await asyncio.wait({self._life})
        self._services = None
        self._exit_code = stopping.exit_code

    def stop(self, reason: str = "SIGTERM", seconds: float = SIGTERM_SECONDS) -> None:
        """Drain, and end the process, within about `seconds`. Does not return."""
        try:
            self.run(self._exit(reason, seconds), seconds + OVERRUN_SECONDS)
        except Exception as problem:
            # A node that blocks the loop. Its lease ends soon after the invocation's deadline.
            metrics.count(Metric.DRAIN_OVERRUN)
            log.error("not drained: %r", problem, extra={"event": "drain.overrun"})
        finally:
            telemetry.flush()
            # Not sys.exit: the interpreter would wait for the runtime client's thread until it is killed.
            os._exit(self._exit_code)

    def suspend(self) -> None:
        """Before a snapshot: nothing is open that its copies could share."""
        self.run(self._exit("snapshot", START_SECONDS), START_SECONDS)
        telemetry.flush()  # or each copy would say it again

    def resume(self) -> None:
        """After a restore: a life of its own, under a new name. Raises nothing.

        A restore that fails is repeated, and so is what made it fail: the copies would be restored again and again. Without a
        database, or with another schema, they answer 503, and each invocation tries again.
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
        """One invocation. Without an extension it ends, runs and all, before the response goes out."""
        invocation = Invocation.of(context)
        observation.begin(invocation)
        with self._arrival:
            self._current = invocation
            held = self.held and self._missed != invocation.request_id
            self._arrival.notify_all()
        try:
            yield invocation
        finally:
            invocation.answered.set()
            if not held:
                self.end(invocation)

    def open(self, invocation: Invocation) -> None:
        """Open the invocation's window: from now on runs may be worked on. Raises StartError."""
        try:
            self.start(min(invocation.left() - ANSWER_SECONDS, OPEN_SECONDS))
        except TimeoutError:
            raise StillStarting from None
        self.run(self._open(invocation), invocation.left() - ANSWER_SECONDS)

    def after(self, request_id: str, deadline: float) -> None:
        """The extension's part of an invocation: wait for its answer, then let its runs end or hand them over."""
        with self._arrival:
            # The runtime's thread may not have come so far yet; and an event that its client cannot read never arrives.
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
        invocation.open(services.runtime, services.settings)

    def end(self, invocation: Invocation) -> None:
        """Close the window. When this returns the environment may be frozen; if it may not, the process ends."""
        try:
            if not self.run(invocation.close(), invocation.left() - OVERRUN_SECONDS):
                self.stop("stuck", max(min(invocation.left(), STUCK_SECONDS), SIGTERM_SECONDS))
        except TimeoutError:
            # A node holds the event loop. Frozen with it, the next invocation would wait for it, too; its lease ends soon.
            metrics.count(Metric.DRAIN_OVERRUN)
            log.error("an invocation outlived its deadline", extra={"event": "invocation.overrun"})
            telemetry.flush()
            os._exit(ExitCode.RUNS_LEFT)
        finally:
            observation.end(invocation)
            self._last_active = time.time()
