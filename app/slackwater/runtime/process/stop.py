"""The stop of a process: one budget for all phases, and nothing that can push it past its deadline.

| verb | phases, in this order |
|---|---|
| drain | stop claiming → ask → insist → close → settle: no run is worked on here any more |
| release | the project's own application → loops, readers, store → gate → deferred runs → pool: nobody uses the pool any more |
| pause | ask → insist → settle, of a process that is about to be frozen, not to leave: it can claim again afterwards |

A run leaves a stop finished, handed over at a boundary, handed over in the middle of a superstep (cut), or, when even its
state could not be written, left to its lease. Who asks for a stop is in `signals`, the lifespan and AWS Lambda's entry.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from slackwater import telemetry
from slackwater.errors import ExitCode
from slackwater.graphs.opened import LEAVE_SECONDS
from slackwater.kit.budget import Budget
from slackwater.runtime.events.journal import Ending
from slackwater.runtime.execution import engine
from slackwater.runtime.execution.attempt import Attempt
from slackwater.runtime.process.watchdog import Watchdog
from slackwater.runtime.queue.states import Outcome, Phase, RunStatus, StopWish
from slackwater.settings import Settings
from slackwater.telemetry import metrics, tracing
from slackwater.telemetry.metrics import Metric

if TYPE_CHECKING:
    from slackwater.runtime.runtime import Runtime

log = logging.getLogger(__name__)

ROUND_SECONDS = 0.02
"""How often a drain looks for runs that were claimed or admitted while it began."""

OUTBOX_SECONDS = 1.0
"""What a process that leaves gives to receivers who are just being stopped of a run."""

FOLDERS_SECONDS = 3.0
"""What a process that leaves gives to the folders that nodes had their files in."""


class Stop:
    """Happens once in the life of a process, whoever asks for it first, and is waited for by all."""

    def __init__(self, settings: Settings, runtime: Runtime) -> None:
        self._settings = settings
        self._runtime = runtime
        self._draining: asyncio.Task[None] | None = None
        self._watchdog = Watchdog(lambda: self.exit_code, self._say_overrun)
        self._released = False
        self.budget: Budget | None = None
        self.report: dict[str, Any] | None = None
        self.leaves = False
        """The process ends with this stop, whatever its server still waits for."""

    async def drain(self, reason: str, seconds: float | None = None) -> None:
        """End or hand over every run; `seconds` is the time there is for the whole stop (default: the grace period).

        Survives cancellation of its callers, however often, and hands the first one on at its end.
        """
        if self._draining is None:
            settings = self._settings
            self.budget = Budget.of(
                settings.grace_seconds if seconds is None else seconds,
                drain_reserve=settings.drain_reserve_seconds,
                hard_reserve=settings.hard_reserve_seconds,
            )
            self._watchdog.watch(self.budget.left())
            self._draining = asyncio.create_task(self._drain(self.budget, reason), name="drain")
        cancelled: asyncio.CancelledError | None = None
        while not self._draining.done():
            try:
                await asyncio.wait({self._draining})
            except asyncio.CancelledError as error:
                cancelled = cancelled or error
        if cancelled is not None:
            raise cancelled
        self._draining.result()

    async def _drain(self, budget: Budget, reason: str) -> None:
        self.report = await drain(self._runtime, budget, reason)

    async def release(self, leave: Callable[[float], Awaitable[None]] | None = None) -> None:
        """Drain, if nobody has asked for it yet, and then let go of everything that is open, within the same budget.

        `leave` is awaited in between, with the seconds that it has: no run is working any more, and the pool is open.
        """
        try:
            try:
                await self.drain("shutdown")
            finally:
                if leave is not None and self.budget is not None:
                    await leave(self.budget.left_to_leave())
        finally:
            await self._release()
            self._released = True
            # Or else it sees to it that nothing keeps the process: not its server, nor the end of its event loop.
            if not self.leaves:
                self._watchdog.cancel()

    async def _release(self) -> None:
        budget, runtime = self.budget, self._runtime
        assert budget is not None
        await release(runtime, budget)
        if await settle_deferred(runtime, budget):
            # Their nodes' threads cannot be cancelled. Only the end of the process stops them, so it has to come
            # right after their runs were given away.
            self._log_report(deferred=True)
            self._exit()
        await runtime.database.close(budget.left())
        self._log_report()
        # What does not let itself be cancelled would keep the event loop from ending.
        if self.leaves and (runtime.worker.endings.strays or runtime.graphs.held):
            self._exit()

    def _exit(self) -> None:
        telemetry.flush()
        os._exit(self.exit_code)

    # What is said of it

    @property
    def exit_code(self) -> ExitCode:
        """RUNS_LEFT until every run is known to be finished, or with others."""
        left = self.report is None or any(run["outcome"] == "left" for run in self.report["runs"])
        return ExitCode.RUNS_LEFT if left else ExitCode.CLEAN

    def _log_report(self, *, deferred: bool = False) -> None:
        report = self.report
        assert report is not None
        assert self.budget is not None
        if deferred:
            settled = {str(a.run.run_id): _line(a) for a in self._runtime.worker.attempts}
            report["runs"] = [settled.get(run["run_id"], run) for run in report["runs"]]
        report["took_ms"] = round(self.budget.spent_ms(), 1)
        level = logging.INFO if self.exit_code is ExitCode.CLEAN else logging.WARNING
        log.log(level, "drained", extra={"event": "drain.report", **report})

    def _say_overrun(self) -> None:
        if not self._released:
            metrics.count(Metric.DRAIN_OVERRUN)
            log.error("the deadline has passed", extra={"event": "drain.overrun", "report": self.report})
        telemetry.flush()


# Drain


async def drain(runtime: Runtime, budget: Budget, reason: str) -> dict[str, Any]:
    """Stop every run of this process, which is about to leave, within the budget; the drain report."""
    stop_claiming(runtime, reason)
    attempts = await _ask_and_insist(runtime, budget, reason)
    close(runtime)
    await _settle(runtime, budget, attempts)
    await runtime.graphs.left(min(LEAVE_SECONDS, budget.left_to_insist() / 2))
    return _recorded(report(attempts, budget, reason), budget)


def stop_claiming(runtime: Runtime, reason: str) -> None:
    """Take no more runs: `/ready` answers 503, new runs are admitted for others, readers of runs elsewhere are cut."""
    if not runtime.draining:
        runtime.phase = Phase.DRAINING
        runtime.worker.stop_claiming(reason)
        runtime.follower.cut_remote()
        runtime.thread_log.cut()


async def _ask_and_insist(runtime: Runtime, budget: Budget, reason: str) -> list[Attempt]:
    """Bring every run to an end or a boundary; cancel, once, what has not got there in time. All that were live."""
    worker = runtime.worker
    live = list(worker.attempts)
    for attempt in live:
        attempt.ask_to_drain(reason)  # what comes later is asked as it begins
    while True:
        running = _tasks(worker.unfinished)
        if not running and not runtime.claims_in_flight:
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
        if runtime.claims_in_flight:
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


def close(runtime: Runtime) -> None:
    """Answer no more: from now on requests get 503."""
    runtime.phase = Phase.CLOSED
    runtime.thread_log.close()


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


def _recorded(stopped: dict[str, Any], budget: Budget) -> dict[str, Any]:
    if stopped["runs"]:  # an invocation ends with a pause, too, and most of them have nothing to stop
        metrics.took(Metric.DRAIN_MS, stopped["took_ms"])
        tracing.record("drain", budget.started, runs=len(stopped["runs"]))
    return stopped


# Release


async def release(runtime: Runtime, budget: Budget) -> None:
    """End what the runtime has started, and shut the gate: after this nobody uses the pool."""
    await runtime.sweeper.stop(budget.left() / 2)
    await runtime.worker.stop(budget.left())
    await runtime.follower.stop(budget.left())
    await runtime.thread_log.stop(budget.left())
    if runtime.admitting:
        await asyncio.wait(runtime.admitting, timeout=budget.left())
    if runtime.node_files is not None:
        await runtime.node_files.stop(min(FOLDERS_SECONDS, budget.left() / 2))
    if runtime.opened_store is not None:
        await runtime.opened_store.stop(budget.left())
    # What is being sent stays due for others: it is no reason to stay.
    await runtime.outbox.stop(min(OUTBOX_SECONDS, budget.left() / 2))
    await runtime.wakeups.flush(budget.left())
    gate = runtime.database.gate
    gate.shut()
    # Not before: what was in a batch that hangs would be said again.
    await runtime.group_commit.stop(budget.left() / 2)
    if not await gate.quiesce(budget.left()):
        log.error(
            "the pool still has writers",
            extra={"event": "drain.unquiet", "writers": gate.in_flight},
        )


async def settle_deferred(runtime: Runtime, budget: Budget) -> bool:
    """Hand over the runs whose node still has a thread; whether there were any. Then the process has to leave at once."""
    tasks = [
        asyncio.create_task(engine.settle(attempt, runtime), name=f"settle:{attempt.run.run_id}")
        for attempt in runtime.worker.attempts
        if attempt.deferred
    ]
    if tasks:
        await asyncio.wait(tasks, timeout=max(0.05, budget.left()))
        await runtime.wakeups.flush(budget.left())
    return bool(tasks)


# Pause


async def pause(runtime: Runtime, budget: Budget, reason: str) -> dict[str, Any]:
    """Stop every run of this process, which is about to be frozen, within the budget; the report.

    Those whose node still has a thread are `deferred` then: the process must not be frozen with them but has to leave, as
    after a drain.
    """
    runtime.worker.stop_claiming(reason)
    attempts = await _ask_and_insist(runtime, budget, reason)
    await _settle(runtime, budget, attempts)
    await runtime.graphs.left(min(LEAVE_SECONDS, budget.left_to_insist() / 2))
    await runtime.outbox.sent(budget.left_to_insist())
    await runtime.wakeups.flush(budget.left())
    await runtime.worker.renewal.rest(budget.left())
    await runtime.database.gate.quiesce(budget.left())
    return _recorded(report(attempts, budget, reason), budget)


# The report


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
