"""The end of attempts: settled, or given up because their nodes do not end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from slackwater.runtime.events.journal import Ending
from slackwater.runtime.execution import engine
from slackwater.runtime.execution.attempt import Attempt
from slackwater.runtime.fenced.settlement import Settled
from slackwater.telemetry import metrics
from slackwater.telemetry.metrics import Metric

if TYPE_CHECKING:
    from slackwater.runtime.process.worker import Worker

log = logging.getLogger(__name__)


class Endings:
    """Sees to it that each attempt of a worker ends once, and leaves its books then."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self.strays = 0
        """Nodes that go on although their run was ended without them."""

    async def work(self, attempt: Attempt) -> None:
        """The task of an attempt: all of it, its end included."""
        try:
            await self._end(attempt, engine.execute(attempt, self._worker.runtime))
        finally:
            if attempt.given_up:
                self.strays -= 1
                metrics.level(Metric.NODES_LEFT, self.strays)

    def give_up(self, attempt: Attempt) -> None:
        """End a run without its nodes, which were cancelled and do not end. What they still do is fenced off."""
        task, wish = attempt.task, attempt.wish
        if task is None or task.done() or wish is None:
            return
        if attempt.outcome is not None:
            attempt.writer.hurry()  # the graph has ended: what it has put last is on its way
            return
        attempt.end_without_nodes(wish)
        attempt.lease.over = True
        attempt.writer.hurry()
        self.strays += 1
        metrics.level(Metric.NODES_LEFT, self.strays)
        log.error(
            "a node ignores its cancellation: its run is ended without it",
            extra={
                "event": "run.given_up",
                "run_id": str(attempt.run.run_id),
                "thread_id": str(attempt.run.thread_id),
                "graph_id": attempt.run.graph_id,
                "reason": wish.value,
            },
        )
        attempt.task = asyncio.create_task(
            self._end(attempt, engine.conclude(attempt, self._worker.runtime, None, None)),
            name=task.get_name(),
        )

    async def _end(self, attempt: Attempt, ending: Coroutine[Any, Any, Settled]) -> None:
        """Wait for the end of an attempt, and strike it off, unless it was given up meanwhile."""
        task, settled = asyncio.current_task(), None
        try:
            settled = await ending
        except Exception:
            if attempt.task is not task:
                return
            # Not what the graph does: a state that Postgres does not take, or a mistake of ours. Whoever takes the run
            # over tries again, until the guard ends it.
            attempt.writer.abandon()
            log.exception(
                "run not settled; its lease will expire",
                extra={"event": "run.unsettled", "run_id": str(attempt.run.run_id)},
            )
        finally:
            if attempt.task is task:
                self._strike_off(attempt, settled)

    def _strike_off(self, attempt: Attempt, settled: Settled | None) -> None:
        worker, runtime = self._worker, self._worker.runtime
        was_full = not worker.has_room
        if not attempt.deferred:
            attempt.lease.over = True
            attempt.journal.close(Ending.GONE_ON)
            runtime.thread_log.nudge(attempt.run.thread_id)
            worker.forget(attempt)
            if attempt.saver.files is not None:
                attempt.saver.files.close()
            if left := runtime.threads.leave(attempt.run.run_id):
                log.warning(
                    "the run has ended here, but its sync nodes are still running: a thread cannot be cancelled",
                    extra={
                        "event": "threads.left",
                        "run_id": str(attempt.run.run_id),
                        "graph_id": attempt.run.graph_id,
                        "threads": left,
                    },
                )
        if settled is not None and not settled.owned:
            metrics.count(Metric.LEASE_LOST)
        # An end that leaves nothing to claim is no reason to ask: it would be a statement for each run.
        # Where an owner's runs are limited, one that waits may begin now although there was room here before.
        limited = runtime.settings.max_running_per_owner > 0 or attempt.run.limited
        if settled is not None and (settled.next_ready or limited):
            worker.offer()
        elif was_full or settled is None or not settled.owned:
            worker.wake()
