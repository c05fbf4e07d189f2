"""The stop: one budget for all phases, and nothing that can push it past its deadline.

ask → insist → settle → release. A run leaves it finished, handed over at a boundary, handed over in the middle of a
superstep (cut), or, when even its state could not be written, left to its lease.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from slackwater import telemetry
from slackwater.errors import ExitCode
from slackwater.graphs.opened import LEAVE_SECONDS
from slackwater.kit.budget import Budget
from slackwater.runtime.events.journal import Ending
from slackwater.runtime.execution import engine
from slackwater.runtime.execution.attempt import Attempt
from slackwater.runtime.queue.states import Outcome, RunStatus, StopWish
from slackwater.settings import Settings
from slackwater.telemetry import metrics, tracing
from slackwater.telemetry.metrics import Metric

if TYPE_CHECKING:
    from slackwater.runtime.runtime import Runtime

log = logging.getLogger(__name__)

OVERRUN_SECONDS = 0.1
"""How long after the deadline a process that still has not left is made to."""

SAY_SECONDS = 0.1
"""How long its last words may take."""

ROUND_SECONDS = 0.02
"""How often a drain looks for runs that were claimed or admitted while it began."""


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


# The phases


async def drain(runtime: Runtime, budget: Budget, reason: str) -> dict[str, Any]:
    """Stop every run of this process, which is about to end, within the budget; the drain report."""
    runtime.begin_draining(reason)
    attempts = await _ask_and_insist(runtime, budget, reason)
    runtime.close_door()
    await _settle(runtime, budget, attempts)
    await runtime.graphs.left(min(LEAVE_SECONDS, budget.left_to_insist() / 2))
    return _recorded(report(attempts, budget, reason), budget)


async def pause(runtime: Runtime, budget: Budget, reason: str) -> dict[str, Any]:
    """Stop every run of this process, which is about to be frozen, within the budget; the report.

    `deferred` in the runtime's worker then holds those whose node still has a thread: the process must not be frozen
    with them but has to end, as after a drain.
    """
    runtime.worker.stop_claiming(reason)
    attempts = await _ask_and_insist(runtime, budget, reason)
    await _settle(runtime, budget, attempts)
    await runtime.graphs.left(min(LEAVE_SECONDS, budget.left_to_insist() / 2))
    await runtime.outbox.sent(budget.left_to_insist())
    await runtime.hints.sent(budget.left())
    await runtime.worker.renewal.rest(budget.left())
    await runtime.database.gate.quiesce(budget.left())
    return _recorded(report(attempts, budget, reason), budget)


def _recorded(told: dict[str, Any], budget: Budget) -> dict[str, Any]:
    if told["runs"]:  # an invocation ends with a pause, too, and most of them have nothing to stop
        metrics.took(Metric.DRAIN_MS, told["took_ms"])
        tracing.record("drain", budget.started, runs=len(told["runs"]))
    return told


async def _ask_and_insist(runtime: Runtime, budget: Budget, reason: str) -> list[Attempt]:
    """Bring every run to an end or a boundary; cancel, once, what has not got there in time. All that were live."""
    worker = runtime.worker
    live = list(worker.attempts)
    for attempt in live:
        attempt.ask_to_drain(reason)  # what comes later is asked as it begins
    while True:
        running = _tasks(worker.unfinished)
        if not running and not runtime.taking_on:
            break
        round_seconds = min(budget.left_to_ask(), ROUND_SECONDS)
        if round_seconds <= 0:
            break
        await _wait(running, round_seconds)
    if worker.unfinished:
        # Perhaps only since the connection is silent by which they store together.
        runtime.group_commit.let_go()
    while True:
        for attempt in (late := worker.unfinished):
            attempt.stop(StopWish.DRAIN)
        # A claim that hung until now may still bring runs.
        seconds = budget.left_to_insist()
        if runtime.taking_on:
            seconds = min(seconds, ROUND_SECONDS)
        elif not late:
            break
        if seconds <= 0:
            break
        await _wait(_tasks(late), seconds)
    return [*live, *(attempt for attempt in worker.latecomers if attempt not in live)]


async def _wait(running: set[asyncio.Task[None]], seconds: float) -> None:
    if running:
        await asyncio.wait(running, timeout=seconds)
    else:
        await asyncio.sleep(seconds)


async def _settle(runtime: Runtime, budget: Budget, attempts: Iterable[Attempt]) -> None:
    worker = runtime.worker
    for attempt in worker.unfinished:
        if attempt.outcome is None and attempt.wish is not StopWish.DRAIN:
            # Whoever wanted it stopped before us has their way, with or without its node.
            worker.endings.give_up(attempt)
        elif attempt.outcome is None:
            # Its node ignores the cancellation. Behind the shut gate it can write nothing more, so it is handed
            # over like one that still has a thread: at the very end.
            attempt.defer()
    settling = _tasks(a for a in worker.unfinished if not a.deferred)
    if settling:
        await asyncio.wait(settling, timeout=max(0.0, budget.left() - budget.hard_reserve / 2))
    for attempt in attempts:
        if attempt.settled is None:
            # Deferred ones too: the server waits for their readers before it lets this process settle them.
            attempt.journal.close(Ending.GONE_ON)


async def settle_deferred(runtime: Runtime, attempts: Iterable[Attempt], budget: Budget) -> None:
    """Hand over the runs whose node still has a thread. The process has to leave at once when this returns."""
    tasks = [
        asyncio.create_task(engine.settle(attempt, runtime), name=f"settle:{attempt.run.run_id}")
        for attempt in attempts
    ]
    if tasks:
        await asyncio.wait(tasks, timeout=max(0.05, budget.left()))
        await runtime.hints.sent(budget.left())


def report(attempts: Iterable[Attempt], budget: Budget, reason: str) -> dict[str, Any]:
    """What became of each run: `finished`, `drained` (at a boundary), `cancelled` (cut) or `left` (to its lease)."""
    return {
        "reason": reason,
        "budget_ms": round(budget.total_ms()),
        "took_ms": round(budget.spent_ms(), 1),
        "runs": [_line(attempt) for attempt in attempts],
    }


def _line(attempt: Attempt) -> dict[str, Any]:
    run = attempt.run
    return {
        "run_id": str(run.run_id),
        "thread_id": str(run.thread_id),
        "outcome": _outcome(attempt),
        "handed_over": attempt.settled == RunStatus.PENDING.value,
        "attempt": run.attempt,
        "fence": run.fence,
        "checkpoint_id": attempt.writer.head_id,
        "ms": round(attempt.took_ms, 1),
    }


def _outcome(attempt: Attempt) -> str:
    if attempt.settled is None:
        return "left"
    return {Outcome.DRAINED: "drained", Outcome.CUT: "cancelled"}.get(
        attempt.outcome or Outcome.LOST, "finished"
    )


def _tasks(attempts: Iterable[Attempt]) -> set[asyncio.Task[None]]:
    return {attempt.task for attempt in attempts if attempt.task is not None}
