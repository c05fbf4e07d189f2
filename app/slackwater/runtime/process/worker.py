"""The loops of a process that works on runs: claim, watch, look for wishes. Each is a named task with an end.

They share `Worker.attempts`. An attempt is in it from the statement that claims its run until no code of it runs here any
more, whoever owns the run by then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE
from slackwater.postgres.shares import Shares
from slackwater.runtime.events.journal import Journal
from slackwater.runtime.execution import engine
from slackwater.runtime.execution.attempt import Attempt
from slackwater.runtime.execution.node_tasks import NodeTasks
from slackwater.runtime.fenced.records import Records
from slackwater.runtime.fenced.writer import Writer
from slackwater.runtime.process.ending import Endings
from slackwater.runtime.process.lost_claims import LostClaims
from slackwater.runtime.process.renewal import LeaseReport, LeaseStatus, Renewal
from slackwater.runtime.queue import claims
from slackwater.runtime.queue.cancel import CancelAction, CancelWish
from slackwater.runtime.queue.claims import ClaimedRun
from slackwater.runtime.queue.lease import Lease
from slackwater.runtime.queue.listening import listen
from slackwater.runtime.queue.states import StopWish
from slackwater.telemetry import metrics
from slackwater.telemetry.metrics import Metric

if TYPE_CHECKING:
    from slackwater.runtime.runtime import Runtime

log = logging.getLogger(__name__)

CLAIM_BATCH = 16
SETTLE_SECONDS_BEFORE_EXPIRY = 0.5
"""How long before its lease expires a run is stopped if the lease cannot be renewed."""

PASSED_OVER_TRIES, PASSED_OVER_SECONDS = 6, 0.2
"""How often, and how soon, a claim is retried: it skips threads whose row is locked."""

LEASE_AFTER_DEADLINE_SECONDS = 2.0
"""How long a lease may outlive the deadline of the invocation that works on its run."""


class Worker:
    """Claims runs and works on them."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.attempts: list[Attempt] = []
        """Every attempt that still runs code here, even if another process owns its run by now."""
        self.live: dict[UUID, Attempt] = {}
        """The newest of them for each run."""
        self.shares = Shares()
        self._crowded = False
        """The last claim was full: more runs may wait, and new ones must not go before them."""
        self._wake = asyncio.Event()
        self._offered = 0
        """How many claimable runs were announced, and have not been claimed here since."""
        self._check_wishes = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._claiming = not runtime.settings.on_lambda
        self._taking = bool(self._claiming and runtime.settings.max_concurrent_runs)
        """A loop here claims what is ready: no other process has to be woken for it."""
        self.stop_reason = ""
        """Why this process has stopped claiming, once it has."""
        self.latecomers: list[Attempt] = []
        """Attempts that began after that, since the response to their claim came late."""
        self._deadline = float("inf")
        self._reserved = 0
        self._said_stuck = False
        self.endings = Endings(self)
        self.claim_in_flight = False
        self.lost_claims = LostClaims()
        self._check_claims = asyncio.Event()
        self.renewal = Renewal(
            runtime.database.conninfo,
            worker=runtime.worker_id,
            name="renewal",
            leases=self._leases,
            lease_seconds=lambda: self.lease_seconds,
            answered=self._renewed,
        )

    # The loops

    def start(self) -> None:
        """Start the loops."""
        settings = self.runtime.settings
        loops: dict[str, Callable[[], Awaitable[None]]] = {"watch": self._watch}
        if settings.max_concurrent_runs:
            loops["wishes"] = self._wishes
            loops["claims"] = self._claims
        # A Lambda environment is frozen between invocations: a run that it claimed by itself would freeze, too.
        if self._taking:
            loops["claim"] = self._claim
        if settings.wake == "listen" and not settings.on_lambda:
            loops["listen"] = partial(
                listen, self.runtime.database, work=self.announce, wishes=self._check_wishes.set
            )
        self._tasks = [
            asyncio.create_task(self._forever(name, loop), name=f"worker:{name}")
            for name, loop in loops.items()
        ]

    def stop_claiming(self, reason: str) -> None:
        """Claim nothing more. Everything claimed until now is in `live` before the next await."""
        self._claiming = self._taking = False
        self.stop_reason = reason
        self.latecomers = []
        self._wake.set()

    def open_window(self, deadline: float) -> None:
        """Allow claims again, for an invocation that ends at `deadline` (monotonic seconds)."""
        self._claiming, self._deadline = True, deadline

    @property
    def lease_seconds(self) -> float:
        """The length of a lease that is taken or renewed now.

        On Lambda a lease ends soon after the invocation's deadline: a run must not wait for the lease of a process that is
        frozen or gone.
        """
        left = self._deadline - time.monotonic() + LEASE_AFTER_DEADLINE_SECONDS
        return min(self.runtime.settings.lease_seconds, max(left, LEASE_AFTER_DEADLINE_SECONDS))

    @property
    def deadline(self) -> float:
        """The deadline of the invocation whose window was opened last (monotonic seconds); infinite outside Lambda."""
        return self._deadline

    async def work(self, until: float) -> None:
        """Claim runs and work on several at a time, until none is left to claim, or `until` (monotonic seconds)."""
        self._taking = True
        tries = PASSED_OVER_TRIES
        try:
            while (left := until - time.monotonic()) > 0:
                self._wake.clear()
                free = min(self.room, CLAIM_BATCH)
                claimed = await self._take(free) if free > 0 else 0
                self._crowded = claimed == free
                if not self.attempts:
                    tries -= 1
                    if not tries or not await self._is_any_ready():
                        return
                    await asyncio.sleep(min(left, PASSED_OVER_SECONDS))
                    continue
                if claimed < free or free <= 0:
                    await self._until_something_happens(min(left, self.runtime.settings.poll_seconds))
        finally:
            self._taking = self._crowded = False

    async def _until_something_happens(self, seconds: float) -> None:
        """Wait until a run has ended, there may be something to claim, or `seconds` have passed."""
        woken = asyncio.create_task(self._wake.wait(), name="worker:woken")
        try:
            await asyncio.wait(
                {woken, *(a.task for a in self.unfinished if a.task is not None)},
                timeout=seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            woken.cancel()

    async def idle(self, until: float) -> bool:
        """Wait until no run is worked on here, or `until` (monotonic seconds); whether this process is idle."""
        while self.unfinished and (left := until - time.monotonic()) > 0:
            await asyncio.wait([a.task for a in self.unfinished if a.task is not None], timeout=left)
        return not self.unfinished

    async def stop(self, timeout: float) -> None:
        """End the loops, within `timeout` seconds."""
        for task in self._tasks:
            task.cancel()
        stopped = asyncio.create_task(self.renewal.stop(timeout), name="renewal:stop")
        await asyncio.wait([*self._tasks, stopped], timeout=timeout)

    async def _forever(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await loop()
                return
            except DATABASE_UNAVAILABLE as problem:
                log.warning("worker %s: %s", name, problem, extra={"event": f"worker.{name}.trouble"})
            except Exception:
                log.exception(
                    "worker %s failed; it starts again", name, extra={"event": f"worker.{name}.failed"}
                )
            await asyncio.sleep(random.uniform(0.1, 0.5))  # noqa: S311 - no secret

    async def _claim(self) -> None:
        tries = 0
        while self._claiming:
            self._wake.clear()
            free = min(self.room, CLAIM_BATCH)
            claimed = await self._take(free) if free > 0 else 0
            self._crowded = claimed == free
            self._offered = max(0, self._offered - claimed)
            if free > 0 and claimed == free:
                continue
            if free > 0 and self._offered and tries < PASSED_OVER_TRIES and await self._is_any_ready():
                # The run was skipped since its thread was locked, and is not announced again.
                tries, seconds = tries + 1, PASSED_OVER_SECONDS
            else:
                # Jitter, so that replicas do not poll in step.
                tries, seconds = 0, self.runtime.settings.poll_seconds * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
                self._offered = 0
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._wake.wait()

    async def _is_any_ready(self) -> bool:
        return await claims.any_ready(self.runtime.database, graphs=self.runtime.graphs.ids)

    async def _take(self, limit: int) -> int:
        self.claim_in_flight = True
        try:
            with self.reserve(limit):
                return await self._take_ready(limit)
        finally:
            self.claim_in_flight = False

    async def _take_ready(self, limit: int) -> int:
        runtime = self.runtime
        if not engine.loaded():
            # Import before the claim, since nobody else can take a run that waits here for it; and only if one is ready.
            if not await self._is_any_ready():
                return 0
            await engine.load()
            if not self._claiming:
                return 0
        # No await between the statement and `begin`: a run that is claimed but not begun would lie idle until its lease
        # expires.
        claimed = await claims.claim(
            runtime.database,
            worker=runtime.worker_id,
            graphs=runtime.graphs.ids,
            limit=limit,
            lease_seconds=self.lease_seconds,
            share=self.shares,
            in_hand=[attempt.run.owner for attempt in self.attempts],
            max_running=runtime.settings.max_running_per_owner or None,
            occupied=self._occupied,
        )
        for run in claimed:
            self.begin(run)
        return len(claimed)

    def wake(self) -> None:
        """Look for something to claim."""
        self._wake.set()

    def offer(self, runs: int = 1) -> None:
        """Announce that many claimable runs: here, and elsewhere if this process does not claim or has no room."""
        self.announce(runs)
        if not self._taking or self.room < runs:
            self.runtime.wakeups.send(runs)

    def announce(self, runs: int = 1) -> None:
        """Announce that many claimable runs here."""
        self._offered += runs
        self._wake.set()

    @property
    def has_room(self) -> bool:
        return self.room > 0

    @property
    def room_for_new(self) -> int:
        """How many new runs could begin here now without overtaking runs that wait."""
        return 0 if self._crowded else self.room

    @property
    def room(self) -> int:
        """How many runs could begin here now."""
        if not self._claiming or self._stuck:
            return 0
        return max(0, self.runtime.settings.max_concurrent_runs - len(self.attempts) - self._reserved)

    @property
    def _stuck(self) -> bool:
        """Whether a run would only wait for a thread here. Each change is logged once."""
        threads = self.runtime.threads
        if threads.stuck and not self._said_stuck:
            log.error(
                "all threads for sync nodes are in use, and none is returned: nothing is claimed here until one is",
                extra={"event": "threads.stuck", "left": threads.left},
            )
        elif self._said_stuck and not threads.stuck:
            log.info(
                "threads for sync nodes are available again: runs are claimed again",
                extra={"event": "threads.free"},
            )
        self._said_stuck = threads.stuck
        return self._said_stuck

    @contextlib.contextmanager
    def reserve(self, number: int) -> Iterator[None]:
        """Reserve room for runs that a statement in flight may claim."""
        self._reserved += number
        try:
            with self.lost_claims.statement():
                yield
        finally:
            self._reserved -= number
            if self.lost_claims.suspected:
                self._check_claims.set()

    async def _claims(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.runtime.settings.lease_seconds / 3):
                    await self._check_claims.wait()
            self._check_claims.clear()
            try:
                await self.take_up_lost()
            except DATABASE_UNAVAILABLE:
                self._check_claims.set()
                raise

    async def take_up_lost(self) -> None:
        """Begin runs that this process owns by a claim whose response was lost."""
        runtime = self.runtime
        if not self._claiming:
            return  # their leases will expire
        ours = await claims.ours(runtime.database, worker=runtime.worker_id)
        self.lost_claims.suspected = False
        lost = self.lost_claims.judge(ours)
        if not lost or not self._claiming:
            return
        with self.reserve(len(lost)):
            await engine.load()
            found = await claims.take_up(
                runtime.database, lost, worker=runtime.worker_id, lease_seconds=self.lease_seconds
            )
            for run in found:
                log.warning(
                    "the response to its claim was lost; it starts now",
                    extra={"event": "run.found", "run_id": str(run.run_id), "thread_id": str(run.thread_id)},
                )
                self.begin(run)

    def begin(self, run: ClaimedRun) -> Attempt | None:
        """Work on a run that this process has just claimed; None if that claim has begun already."""
        if not self.lost_claims.begin((run.run_id, run.fence)):
            return None
        journal = Journal(run.fence)
        writer = Writer(
            self.runtime.database,
            run.lease,
            journal,
            self.runtime.group_commit,
            input_applied=run.input_applied,
            answer_is_input=engine.is_one_answer(run.kwargs),
            records=Records(run.thread_id, run.run_id, run.owner, run.fence)
            if self.runtime.settings.gateway
            else None,
        )
        saver = engine.RunSaver(
            self.runtime.database,
            writer,
            fresh=run.fresh_thread,
            base_id=run.base_checkpoint_id,
            confined=True,
        )
        if run.base_checkpoint_id is not None:
            engine.advance_past(run.base_checkpoint_id)  # a fork reads an older checkpoint only
        saver.node_tasks = node_tasks = NodeTasks()
        if self.runtime.node_files is not None:
            saver.files = self.runtime.node_files.of(
                run.owner, run.thread_id, saver.owning_loop, writer.retrying
            )
        control = engine.Control(node_tasks, saver.files)
        attempt = Attempt(run, saver, writer, run.lease, journal, control, node_tasks)
        run.lease.keeper = self.renewal
        attempt.give_up = self.endings.give_up
        # LangGraph swallows the failure of a put in the background: without this its nodes would run on.
        writer.on_lost = attempt.stopping(StopWish.LEASE_LOST)
        run.lease.on_forgotten = attempt.stopping(StopWish.FORGOTTEN)
        writer.on_stored = lambda: self.runtime.thread_log.nudge(run.thread_id)
        self.attempts.append(attempt)
        self.shares.served(run.owner)
        self.live[run.run_id] = attempt
        self.renewal.begin()
        self.runtime.wakeups.prepare()
        metrics.level(Metric.RUNS_LIVE, len(self.attempts))
        if run.stopped is None:
            metrics.count(Metric.RUNS_STARTED)
        attempt.scope = copy_context()
        attempt.task = asyncio.create_task(
            self.endings.work(attempt), name=f"run:{run.run_id}", context=attempt.scope
        )
        if not self._claiming:  # a drain, or the end of the window, came between the claim and its response
            attempt.ask_to_drain(self.stop_reason)
            self.latecomers.append(attempt)
        if run.cancel_action:
            attempt.stop(
                StopWish.CANCEL, CancelWish(CancelAction(run.cancel_action), run.cancel_reason or "cancelled")
            )
        if limit := self.runtime.settings.run_timeout_seconds:
            attempt.timeout_at = attempt.started + limit - run.worked_seconds
            if run.worked_seconds >= limit:  # not a single node may start
                attempt.stop(StopWish.TIMEOUT)
        return attempt

    def _leases(self) -> list[Lease]:
        """The leases to renew. Called in the renewal's thread while the loop may change `attempts`, hence the copy."""
        return [a.lease for a in list(self.attempts) if a.settled is None and not a.lease.lost]

    async def renew_now(self) -> None:
        """Renew every lease; stop attempts that lost theirs or are to be cancelled."""
        await self.renewal.now()

    def _renewed(self, answers: Sequence[LeaseReport]) -> None:
        attempts = {id(attempt.lease): attempt for attempt in self.attempts}
        for answer in answers:
            attempt = attempts.get(id(answer.lease))
            if attempt is None:
                continue
            if answer.wish is not None:
                attempt.stop(StopWish.CANCEL, answer.wish)
            elif answer.status is LeaseStatus.GONE:
                if attempt.outcome is None:
                    attempt.stop(StopWish.LEASE_LOST)
                elif attempt.settled is None:
                    attempt.lease.lost = True

    async def _watch(self) -> None:
        """Stop runs that have reached their time limit, and runs whose lease is about to expire although a statement hangs.

        After a freeze, or behind a lock, the database is asked first: an expired lease that nobody has taken is renewed.
        """
        margin = min(SETTLE_SECONDS_BEFORE_EXPIRY, self.runtime.settings.lease_seconds / 6)
        while True:
            await asyncio.sleep(margin / 2)
            now = time.monotonic()
            for attempt in list(self.attempts):
                if attempt.outcome is not None:
                    continue
                if now > attempt.lease.deadline - margin and not attempt.lease.lost:
                    if self.renewal.silent:
                        attempt.stop(StopWish.LEASE_LOST)
                    else:
                        self.renewal.ask()
                elif now > attempt.timeout_at:
                    attempt.stop(StopWish.TIMEOUT)

    async def _wishes(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.runtime.settings.poll_seconds):
                    await self._check_wishes.wait()
            self._check_wishes.clear()
            if self.live:
                for row in await claims.wishes(self.runtime.database, worker=self.runtime.worker_id):
                    attempt = self.live.get(row["run_id"])
                    if attempt is not None and attempt.run.fence == row["fence"]:
                        attempt.stop(StopWish.CANCEL, CancelWish.of(row))

    # Others

    @property
    def unfinished(self) -> list[Attempt]:
        """The attempts whose task has not ended."""
        return [a for a in self.attempts if a.task is not None and not a.task.done()]

    def unwinds_on(self, thread_id: UUID) -> bool:
        """Whether nodes of a lost run still run here on this thread: no other run may begin beside them."""
        return any(
            attempt.run.thread_id == thread_id
            for attempt in self.attempts
            if attempt.settled is None and not attempt.lease.valid()
        )

    @property
    def _occupied(self) -> list[UUID]:
        """The threads that must not be claimed now, since nodes of this process may still run there."""
        return [attempt.run.thread_id for attempt in self.attempts if attempt.settled is None]

    def forget(self, attempt: Attempt) -> None:
        """Remove an attempt of which no code runs here any more."""
        self.attempts.remove(attempt)
        # Compared by identity: its run may have been claimed again since.
        if self.live.get(attempt.run.run_id) is attempt:
            del self.live[attempt.run.run_id]
        metrics.level(Metric.RUNS_LIVE, len(self.attempts))
