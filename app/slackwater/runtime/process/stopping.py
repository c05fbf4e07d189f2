"""The stop of a process."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from slackwater import telemetry
from slackwater.errors import ExitCode
from slackwater.kit.budget import Budget
from slackwater.settings import Settings
from slackwater.telemetry import metrics
from slackwater.telemetry.metrics import Metric

if TYPE_CHECKING:
    from slackwater.runtime.runtime import Runtime

log = logging.getLogger(__name__)

OVERRUN_SECONDS = 0.1
"""How long after the deadline a process that still has not left is made to."""

SAY_SECONDS = 0.1
"""How long its last words may take."""


class Stopping:
    """The stop of the process: happens once, whoever asks for it first, and is waited for by all."""

    def __init__(self, settings: Settings, runtime: Runtime) -> None:
        self._settings = settings
        self._runtime = runtime
        self._task: asyncio.Task[None] | None = None
        self.budget: Budget | None = None
        self.report: dict[str, Any] | None = None
        self.exit_code = ExitCode.CLEAN
        self._released = False
        self.leaves = False
        """The process ends with this stop, whatever its server still waits for."""
        self._timer: threading.Timer | None = None

    async def stop(self, reason: str, seconds: float | None = None) -> None:
        """Drain every run; `seconds` is the time there is (default: the grace period).

        Survives cancellation of its callers, however often, and hands the first one on at its end.
        """
        if self._task is None:
            settings = self._settings
            self.budget = Budget.of(
                settings.grace_seconds if seconds is None else seconds,
                drain_reserve=settings.drain_reserve_seconds,
                hard_reserve=settings.hard_reserve_seconds,
            )
            self._watch(self.budget)
            self._task = asyncio.create_task(self._drain(self.budget, reason), name="drain")
        cancelled: asyncio.CancelledError | None = None
        while not self._task.done():
            try:
                await asyncio.wait({self._task})
            except asyncio.CancelledError as error:
                cancelled = cancelled or error
        if cancelled is not None:
            raise cancelled
        self._task.result()

    async def finish(self, leave: Callable[[float], Awaitable[None]] | None = None) -> None:
        """Drain if nobody has asked for it yet, then let go of everything, within the same budget.

        `leave` is awaited in between, with the seconds that it has: no run is working any more, and the pool is open.
        """
        try:
            try:
                await self.stop("shutdown")
            finally:
                if leave is not None and self.budget is not None:
                    await leave(self.budget.left_to_leave())
        finally:
            await self._release()
            self._released = True
            # Or else it sees to it that nothing keeps the process: not its server, nor the end of its event loop.
            if self._timer is not None and not self.leaves:
                self._timer.cancel()

    async def _drain(self, budget: Budget, reason: str) -> None:
        self.report = await self._runtime.drain(budget, reason)
        if self._runs_left:
            self.exit_code = ExitCode.RUNS_LEFT

    @property
    def _runs_left(self) -> bool:
        return self.report is None or any(run["outcome"] == "left" for run in self.report["runs"])

    async def _release(self) -> None:
        budget, runtime = self.budget, self._runtime
        assert budget is not None
        await runtime.release(budget)
        if await runtime.settle_deferred(budget):
            # Their nodes' threads cannot be cancelled. Only the end of the process stops them, so it has to come
            # right after their runs were given away.
            self._log_report(deferred=True)
            self._leave()
        await runtime.close(budget)
        self._log_report()
        if self.leaves and runtime.held_up:
            self._leave()

    def _log_report(self, *, deferred: bool = False) -> None:
        report = self.report
        assert report is not None
        assert self.budget is not None
        if deferred:
            final = self._runtime.report(self.budget, report["reason"])
            settled = {run["run_id"]: run for run in final["runs"]}
            report["runs"] = [settled.get(run["run_id"], run) for run in report["runs"]]
            if not self._runs_left:
                self.exit_code = ExitCode.CLEAN
        report["took_ms"] = round(self.budget.spent_ms(), 1)
        level = logging.INFO if self.exit_code is ExitCode.CLEAN else logging.WARNING
        log.log(level, "drained", extra={"event": "drain.report", **report})

    def _watch(self, budget: Budget) -> None:
        """A node that blocks the event loop cannot push the stop past its deadline, nor can whatever else does not end:
        then the process just leaves."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._timer = threading.Timer(budget.left() + OVERRUN_SECONDS, self._overrun)
        self._timer.daemon = True
        self._timer.name = "deadline"
        self._timer.start()

    def _overrun(self) -> None:
        if self._runs_left:
            self.exit_code = ExitCode.RUNS_LEFT
        # That may hang, too: whoever writes to a pipe that nobody reads holds the lock of the log.
        saying = threading.Thread(target=self._say_overrun, name="overrun", daemon=True)
        saying.start()
        saying.join(SAY_SECONDS)
        os._exit(self.exit_code)

    def _say_overrun(self) -> None:
        if not self._released:
            metrics.count(Metric.DRAIN_OVERRUN)
            log.error("the deadline has passed", extra={"event": "drain.overrun", "report": self.report})
        telemetry.flush()

    def _leave(self) -> None:
        telemetry.flush()
        os._exit(self.exit_code)
