"""Work that no other part does: runs of dead processes, runs to delete, old events, readers that did not return.

Two loops: one takes over expired runs until none is left; the other does the jobs, one after another. Each job is limited in
time and in the rows of one statement, and its failure does not affect the others. All of it may run in any number of processes
at once.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import UUID

from slackwater.kit.bounded import bounded
from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE
from slackwater.runtime.process import takeover
from slackwater.runtime.queue import pruning, retention
from slackwater.runtime.queue.batch import Batch
from slackwater.runtime.queue.cancel import READER_GONE, CancelAction
from slackwater.runtime.queue.states import ACTIVE
from slackwater.telemetry import metrics
from slackwater.telemetry.metrics import Metric

if TYPE_CHECKING:
    from slackwater.runtime.runtime import Runtime

log = logging.getLogger(__name__)

JOB_STATEMENTS = 2
"""How long one job may take, in statement timeouts. The rest is left for the next sweep."""

UNWIND_SECONDS = 1.0
"""How long a job may take to unwind after its timeout; user code in it may ignore the cancellation."""

WINDOW_SHARE = 0.5
"""The share of an invocation's time for its sweep. The rest is for runs that have become ready."""

READER_SECONDS = 60
"""How long the reader of an `on_disconnect=cancel` run may be away."""

_READERS_GONE = f"""
select run_id, thread_id, owner from slackwater.runs
where status in {ACTIVE} and cancel_action is null
  and reader_left_at < now() - interval '{READER_SECONDS} seconds' order by reader_left_at limit %(limit)s"""

_READERS_HERE = f"""
update slackwater.runs set reader_left_at = null
where run_id = any(%(run_ids)s::uuid[]) and reader_left_at is not null and status in {ACTIVE}"""

# Some of the busy threads, and which of them nobody works for. A run that is running holds its thread.
_BUSY_THREADS = """
select t.thread_id, (t.graph_id is null or t.graph_id = any(%(graphs)s))
  and not exists (select 1 from slackwater.runs r where r.thread_id = t.thread_id and r.holds_thread)
  and not exists (select 1 from slackwater.runs r where r.thread_id = t.thread_id and r.status = 'pending') as stale
from (
  select thread_id, metadata ->> 'graph_id' as graph_id from slackwater.threads
  where status = 'busy' and thread_id > %(after)s order by thread_id limit %(limit)s) t
order by t.thread_id"""

_FIRST = UUID(int=0)

STUCK_LEASE_SECONDS = 5
"""If a run whose lease has expired is not taken over within this time, sweeps are too rare."""

STUCK_WAIT_SECONDS = 60
"""If a ready run waits longer than this, no process has capacity for it, or none is running."""

_STUCK = f"""
select count(*) as runs from (
  (select 1 from slackwater.runs where status = 'running'
    and lease_until < now() - interval '{STUCK_LEASE_SECONDS} seconds' limit 1000)
  union all
  (select 1 from slackwater.runs where ready
    and available_at < now() - interval '{STUCK_WAIT_SECONDS} seconds' limit 1000)) stuck"""


class SweepFailed(Exception):
    """A part of a sweep has failed, and is in the log. The other parts are done."""

    def __init__(self, problem: BaseException) -> None:
        super().__init__(str(problem))
        self.problem = problem


class Sweeper:
    """The sweeps of one process."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.jobs: dict[str, Callable[[], Awaitable[object]]] = {
            "readers": self._readers,
            "threads": self._threads,
            "events": self._events,
            "runs": self._runs,
            "messages": self._messages,
            "keys": self._keys,
            "ttl": self._ttl,
            "items": self._items,
            "webhooks": runtime.outbox.sweep,
        }
        """Jobs by name. Others may be added; each must be safe in any number of processes at once."""
        self.tasks: list[asyncio.Task[None]] = []
        self._left: dict[str, asyncio.Task[object]] = {}
        """Jobs that ignored their cancellation."""
        self._after = _FIRST
        self._batches = {
            "take over": Batch(100, 500),
            "readers": Batch(100, 100),
            "threads": Batch(500, 1000),
            "events": Batch(1000, 10_000),
            "runs": Batch(200, 500),
            "messages": Batch(1000, 10_000),
            "keys": Batch(1000, 10_000),
            "ttl": Batch(pruning.BATCH, pruning.BATCH),
            "items": Batch(1000, 10_000),
        }

    # The loops

    def start(self) -> None:
        """Start the loops."""
        self.tasks = [
            asyncio.create_task(self._forever(act), name=f"sweeper:{name}")
            for name, act in (("take-over", self.take_over), ("jobs", self.do_jobs))
        ]

    async def stop(self, timeout: float) -> None:
        """End the loops and the jobs in progress, within `timeout` seconds."""
        tasks = [*self.tasks, *self._left.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)

    async def _forever(self, act: Callable[[], Awaitable[object]]) -> None:
        seconds = self._runtime.settings.sweep_seconds
        while not self._runtime.draining:
            # Jitter, so that replicas share the work instead of contending for it.
            await asyncio.sleep(seconds * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            with suppress(SweepFailed):  # already logged
                await act()

    async def sweep(self) -> int:
        """All of it, once; how many runs were taken over. In an invocation within half of what is left of it.

        Raises, when all the rest is done, what has gone wrong first.
        """
        now = time.monotonic()
        until = now + (self._runtime.worker.deadline - now) * WINDOW_SHARE
        taken, failures = 0, []
        for part in (self.take_over, self.do_jobs):
            try:
                taken += await part(until) or 0
            except SweepFailed as failure:
                failures.append(failure.problem)
        if failures:
            raise failures[0]
        return taken

    async def take_over(self, until: float = float("inf")) -> int:
        """Take over what has expired, until nothing is left, or `until` (monotonic seconds); how many there were.

        Raises SweepFailed, and so does `do_jobs`.
        """
        taken = 0

        async def act() -> None:
            nonlocal taken
            # Before anything is done about them, and whether or not it succeeds.
            for row in await self._runtime.database.fetch(_STUCK):
                metrics.level(Metric.RUNS_STUCK, row["runs"])
            taken = await takeover.take_over_all(self._runtime, self._batches["take over"])

        if problem := await self._do("take over", act, until):
            raise SweepFailed(problem)
        return taken

    async def do_jobs(self, until: float = float("inf")) -> None:
        """Each job once, as far as there is time for it."""
        problems = [await self._do(name, act, until) for name, act in list(self.jobs.items())]
        for problem in filter(None, problems):
            raise SweepFailed(problem)

    async def _do(
        self, name: str, act: Callable[[], Awaitable[object]], until: float
    ) -> BaseException | None:
        """One job, within its time; what has gone wrong with it."""
        seconds = min(JOB_STATEMENTS * self._runtime.database.statement_seconds, until - time.monotonic())
        if seconds <= 0 or name in self._left:
            log.warning(
                "no time left for %s; the next sweep does it",
                name,
                extra={"event": "sweep.late", "job": name},
            )
            return None
        task = asyncio.ensure_future(act())
        task.set_name(f"sweep:{name}")
        try:
            await asyncio.wait({task}, timeout=seconds)
        finally:
            if late := not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=UNWIND_SECONDS)
                if not task.done():
                    self._left[name] = task
                    task.add_done_callback(lambda _: self._left.pop(name, None))
        if late:
            log.warning(
                "%s exceeded its %g s; the next sweep continues%s",
                name,
                seconds,
                " when it has ended" if name in self._left else "",
                extra={"event": "sweep.late", "job": name},
            )
        elif problem := _problem(task):
            self._report(name, problem)
            return problem
        return None

    def _report(self, name: str, problem: BaseException) -> None:
        trouble = isinstance(problem, DATABASE_UNAVAILABLE)
        log.log(
            logging.WARNING if trouble else logging.ERROR,
            "%s: %s; the next sweep tries again",
            name,
            problem,
            exc_info=None if trouble else problem,
            extra={"event": "sweep.trouble" if trouble else "sweep.failed", "job": name},
        )

    # The jobs

    async def _readers(self) -> None:
        runtime = self._runtime
        if readers := list(runtime.follower.following):
            # A run may have been handed over while its reader was, and still is, connected to this process.
            await runtime.database.execute(_READERS_HERE, {"run_ids": readers})
        with self._batches["readers"].sized() as limit:
            rows = await runtime.database.fetch(_READERS_GONE, {"limit": limit})
        for row in rows:
            cancel = runtime.cancel(
                row["owner"], row["thread_id"], [row["run_id"]], CancelAction.INTERRUPT, READER_GONE
            )
            try:
                await bounded(cancel, takeover.READ_SECONDS, None)
            except DATABASE_UNAVAILABLE as problem:
                self._report("readers", problem)

    async def _threads(self) -> None:
        """Let the threads show their state that whoever has ended their last run did not live to read."""
        begun = self._after
        while True:
            with self._batches["threads"].sized() as limit:
                rows = await self._runtime.database.fetch(
                    _BUSY_THREADS,
                    {"after": self._after, "limit": limit, "graphs": list(self._runtime.graphs.ids)},
                )
            for row in rows:
                # Not at the end: what hangs with one thread is not met first by the next sweep, too.
                self._after = row["thread_id"]
                if row["stale"]:
                    await takeover.read_again(self._runtime, row["thread_id"])
            if len(rows) < limit:
                wrapped, self._after = begun != _FIRST, _FIRST
                if not wrapped:
                    return
                begun = _FIRST

    async def _events(self) -> None:
        seconds = self._runtime.settings.event_retention_seconds
        await retention.trim_events(self._runtime.database, seconds, self._batches["events"])

    async def _runs(self) -> None:
        await retention.delete_runs(self._runtime.database, self._batches["runs"], self._batches["events"])

    async def _messages(self) -> None:
        if days := self._runtime.settings.message_retention_days:
            await retention.trim_messages(self._runtime.database, days, self._batches["messages"])

    async def _keys(self) -> None:
        await retention.trim_keys(self._runtime.database, self._batches["keys"])

    async def _ttl(self) -> None:
        await pruning.expire(self._runtime.database, self._runtime.graphs.thread_ttl, self._batches["ttl"])

    async def _items(self) -> None:
        await retention.trim_items(self._runtime.database, self._batches["items"])


def _problem(task: asyncio.Task[object]) -> BaseException | None:
    """What a job has failed with. User code in it may raise CancelledError, and nobody has cancelled the sweep."""
    return asyncio.CancelledError("cancelled by itself") if task.cancelled() else task.exception()
