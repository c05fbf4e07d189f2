"""What executes and stops runs in this process: the facade that services and the lifespan call."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from contextvars import Context
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from psycopg.types.json import Jsonb

from slackwater.errors import Draining
from slackwater.graphs.config import config_of, of_a_thread
from slackwater.graphs.snapshot import thread_facts
from slackwater.identity.audit.actor import NOBODY, Actor
from slackwater.kit import json_format
from slackwater.kit.budget import Budget
from slackwater.kit.imports import imports_are_lazy
from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE
from slackwater.postgres.group_commit import IN_FLIGHT, GroupCommit
from slackwater.postgres.lanes import lanes_of
from slackwater.postgres.pool import Database
from slackwater.runtime.events.journal import BEGINNING, Event, EventId
from slackwater.runtime.events.run_reader import Follower
from slackwater.runtime.events.thread_reader import ThreadLog
from slackwater.runtime.execution import engine, node_tasks
from slackwater.runtime.execution.node_files import NodeFiles
from slackwater.runtime.execution.node_mcp import NodeMcp
from slackwater.runtime.execution.node_memory import NodeMemory
from slackwater.runtime.execution.node_skills import NodeSkills
from slackwater.runtime.execution.node_threads import NodeThreads
from slackwater.runtime.execution.outbox import NoOutbox, Outbox
from slackwater.runtime.execution.own_calls import NoOwnCalls, OwnCalls
from slackwater.runtime.fenced.settlement import ThreadFacts
from slackwater.runtime.process import stop, takeover
from slackwater.runtime.process.hold import Held, hold
from slackwater.runtime.process.sweeper import Sweeper
from slackwater.runtime.process.worker import Worker
from slackwater.runtime.queue import admission, admissions, cancel, order
from slackwater.runtime.queue.admission import Admitted, NewRun
from slackwater.runtime.queue.cancel import CancelAction, Cancelled, CancelWish
from slackwater.runtime.queue.lease import Lease
from slackwater.runtime.queue.limits import Limits
from slackwater.runtime.queue.states import Phase, StopWish
from slackwater.runtime.queue.wakeups import Waker, WakeUps

if TYPE_CHECKING:
    from slackwater.graphs.registry import Graphs
    from slackwater.runtime.execution.store import GatedStore, OwnedStore
    from slackwater.settings import Settings

log = logging.getLogger(__name__)


class _NotOpened(Exception):
    """A graph cannot be opened. Its cause may look like an unavailable database, but is its factory's."""


class Runtime:
    """One per process; it lives between the opening of the pool and its release."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        graphs: Graphs,
        waker: Waker | None = None,
        outbox: Outbox | None = None,
        own_calls: OwnCalls | None = None,
    ) -> None:
        self.settings = settings
        self.database = database
        self.graphs = graphs
        self.worker_id = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        """Who holds a lease. Never the same for two processes, nor for two lives of one."""
        self.phase = Phase.STARTING
        self.max_handovers = settings.max_handovers
        self.cut_seconds = (settings.drain_reserve_seconds - settings.hard_reserve_seconds) / 2
        self.threads = NodeThreads()
        # Nobody listens on Lambda, where a connection of one's own sees nothing while it is frozen.
        self.wakeups = WakeUps(database, notify=not settings.on_lambda, waker=waker)
        self.outbox = outbox or NoOutbox()
        self.own_calls = own_calls or NoOwnCalls()
        self.node_files: NodeFiles | None = None
        """What nodes get when they ask for files, if there are any."""
        self.node_memory: NodeMemory | None = None
        """And when they ask what is remembered of their owner."""
        self.node_skills: NodeSkills | None = None
        """And when they ask for their owner's skills."""
        self.node_mcp: NodeMcp | None = None
        """And when they ask for the tools of MCP servers."""
        connections = settings.pool_max_size - lanes_of(settings.pool_max_size)
        # Half of those that are no lanes are for what is said alone. Beside those who settle one is left, so that a hint does
        # not wait behind a crowd that ends.
        self.group_commit = GroupCommit(
            database,
            in_flight=max(1, min(IN_FLIGHT, settings.pool_max_size // 2)),
            alone=max(1, connections // 2),
        )
        self.settling = asyncio.Semaphore(max(1, connections // 2 - 1))
        self._limits = Limits(settings.max_running_per_owner or None, settings.max_pending_per_owner or None)
        self.opened_store: GatedStore | None = None
        self.worker = Worker(self)
        self.follower = Follower(self)
        self.thread_log = ThreadLog(self)
        self.sweeper = Sweeper(self)
        self.admitting: set[asyncio.Task[Any]] = set()

    @property
    def store(self) -> GatedStore:
        """The store of all owners; needs the engine. Raises GraphImportError if its embedding does not import."""
        if self.opened_store is None:
            # Its task works for no run, not even for the one that asks for it first.
            self.opened_store = Context().run(
                lambda: engine.open_store(self.database, self.graphs.store_spec, self.graphs.embedding())
            )
        return self.opened_store

    def store_of(self, owner: str, lease: Lease | None = None) -> OwnedStore:
        """What an owner's requests see of the store, or one of the runs of that owner under its lease; needs the engine."""
        return engine.OwnedStore(self.store, owner, lease)

    # Life

    async def start(self) -> None:
        """Begin to work."""
        asyncio.get_running_loop().set_default_executor(self.threads)
        node_tasks.watch(asyncio.get_running_loop())
        if not imports_are_lazy():
            await engine.load()
            if self.graphs.store_spec.index:
                self.opened_store = self.store  # what is wrong with its embedding is said at the start
        self.worker.start()
        if not self.settings.on_lambda:  # there the schedule sweeps
            self.sweeper.start()
        self.phase = Phase.READY

    @property
    def draining(self) -> bool:
        return self.phase in (Phase.DRAINING, Phase.CLOSED)

    @property
    def closed(self) -> bool:
        return self.phase is Phase.CLOSED

    @property
    def claims_in_flight(self) -> bool:
        """Whether a claim or an admission is in flight that may still make a run ours."""
        return self.worker.claim_in_flight or self.worker.lost_claims.in_flight or bool(self.admitting)

    # The window of an invocation

    def open_window(self, deadline: float) -> None:
        """An invocation has begun that ends at `deadline` (monotonic seconds): its runs may be worked on here."""
        self.worker.open_window(deadline)

    async def work(self, until: float) -> None:
        """Claim and work until nothing is left to claim, and nothing that a sweep has begun is left to do, or `until` (monotonic)."""
        await self.worker.work(until)
        await self.outbox.idle(until)

    async def idle(self, until: float) -> bool:
        """Wait until no run is worked on here, or `until` (monotonic seconds); whether none is."""
        return await self.worker.idle(until)

    async def rest(self, until: float) -> bool:
        """After a pause: wait, until `until` (monotonic seconds), for what requests have left behind since.

        Whether the environment may be frozen as far as runs are concerned: none is here, and none may still come.
        """
        await self.wakeups.flush(until - time.monotonic())
        await self.database.quiesce(until - time.monotonic())
        return not (self.worker.attempts or self.claims_in_flight)

    async def pause(self, budget: Budget, reason: str) -> dict[str, Any]:
        """Stop every run before a freeze, which may last for ever; see `stop.pause`."""
        return await stop.pause(self, budget, reason)

    # Runs

    def works_on(self, run_id: UUID) -> bool:
        """Whether this process works on the run."""
        return run_id in self.worker.live

    def offer(self) -> None:
        """A run may have become ready: see that it is begun, here or elsewhere."""
        self.worker.offer()

    async def newest(self, run_id: UUID) -> EventId:
        """The id of the run's last event. See `Follower.newest`."""
        return await self.follower.newest(run_id)

    def send_due(self) -> None:
        """Something may be due that others are to be told: send it."""
        self.outbox.nudge()

    async def admit(self, new: NewRun, *, begin: bool = True) -> Admitted:
        """Take in a run, and start it here if it is due, its thread is free and there is room.

        Without `begin` it is taken in and announced, and no more: for callers who hang up before LangGraph may be imported.
        The caller may be cancelled at any moment; the run, once admitted, is recorded and begun all the same.
        """
        task = asyncio.create_task(self._admit(new, begin), name=f"admit:{new.run_id}")
        self.admitting.add(task)
        task.add_done_callback(self.admitting.discard)
        return await asyncio.shield(task)

    async def _admit(self, new: NewRun, begin: bool) -> Admitted:
        begin = begin and not self.draining
        if begin and self.worker.room_for_new:
            await engine.load()  # before the claim: nobody else can take what waits here for an import
        if self.closed:
            raise Draining
        begin = begin and not self.draining
        claim = begin and self.worker.room_for_new > 0 and not self.worker.unwinds_on(new.thread_id)
        with self.worker.reserve(int(claim)):
            admitted = await admissions.admit(
                self.database,
                self.group_commit,
                replace(new, ttl=self.graphs.thread_ttl.of_new_threads),
                worker=self.worker_id,
                claim=claim,
                lease_seconds=self.worker.lease_seconds,
                limits=self._limits,
            )
            if admitted.claimed is not None:
                self.worker.begin(admitted.claimed)
        if admitted.next_ready:
            self.worker.offer()
        for run_id, wish in admitted.displaced.items():
            self._stop_here(run_id, wish)
        if new.multitask_strategy in ("interrupt", "rollback"):
            self.outbox.nudge()  # runs that nobody worked on have ended
        return admitted

    async def admitted_before(self, owner: str, idempotency_key: str) -> Mapping[str, Any] | None:
        """The row of the run that an earlier request with this key has made. Raises RunForgotten."""
        earlier = await admission.earlier(self.database, owner, idempotency_key)
        return earlier.row if earlier else None

    async def admit_batch(self, news: Sequence[NewRun]) -> list[Admitted]:
        """Take in runs, each on a new thread of its own: all of them or none. As many as there is room for start here.

        The caller may be cancelled at any moment, as with `admit`.
        """
        task = asyncio.create_task(self._admit_batch(news), name="admit:batch")
        self.admitting.add(task)
        task.add_done_callback(self.admitting.discard)
        return await asyncio.shield(task)

    async def _admit_batch(self, news: Sequence[NewRun]) -> list[Admitted]:
        if self.worker.room_for_new and not self.draining:
            await engine.load()
        if self.closed:
            raise Draining
        room = 0 if self.draining else min(self.worker.room_for_new, len(news))
        with self.worker.reserve(room):
            batch = await admission.admit_batch(
                self.database,
                [replace(new, ttl=self.graphs.thread_ttl.of_new_threads) for new in news],
                worker=self.worker_id,
                claims=room,
                lease_seconds=self.worker.lease_seconds,
                limits=self._limits,
            )
            for admitted in batch:
                if admitted.claimed is not None:
                    self.worker.begin(admitted.claimed)
        if waiting := sum(admitted.next_ready for admitted in batch):
            self.worker.offer(waiting)
        return batch

    async def cancel(
        self,
        owner: str,
        thread_id: UUID,
        run_ids: list[UUID] | None,
        action: CancelAction,
        reason: str = cancel.CANCEL_REASON,
        actor: Actor = NOBODY,
    ) -> Cancelled:
        """Record the wish; end what has no owner; tell the owner if that is this process."""
        cancelled = await cancel.cancel(
            self.database,
            owner=owner,
            thread_id=thread_id,
            run_ids=run_ids,
            action=action,
            reason=reason,
            actor=actor,
        )
        await self._wished(cancelled)
        if cancelled.ended:
            self.outbox.nudge()
            await self.refresh_thread(thread_id)
            self.worker.offer()
        return cancelled

    async def cancel_many(
        self,
        owner: str,
        run_ids: Mapping[UUID, list[UUID]],
        action: CancelAction,
        reason: str,
        actor: Actor = NOBODY,
    ) -> bool:
        """The same for the runs of several threads, by their threads; whether there was anything to cancel."""
        many = await cancel.cancel_many(
            self.database, owner=owner, run_ids=run_ids, action=action, reason=reason, actor=actor
        )
        await self._wished(many.runs)
        if many.runs.ended:
            self.outbox.nudge()
        for thread_id in many.unread:
            await self.refresh_thread(thread_id)
        if many.next_ready:
            self.worker.offer()
        found = many.runs.found
        for thread_id, of_thread in many.left.items():
            cancelled = await self.cancel(owner, thread_id, of_thread, action, reason, actor)
            found = cancelled.found or found
        return found

    async def _wished(self, cancelled: Cancelled) -> None:
        for run_id, wish in cancelled.live.items():
            self._stop_here(run_id, wish)
        if cancelled.orphans:
            await takeover.take_over_expired(self, cancelled.orphans)

    def _stop_here(self, run_id: UUID, wish: CancelWish) -> None:
        attempt = self.worker.live.get(run_id)
        if attempt is not None:
            attempt.stop(StopWish.CANCEL, wish)

    def forget(self, run_id: UUID) -> None:
        """The run is deleted: stop working on it, if this process does."""
        self._stop_here(run_id, CancelWish(CancelAction.ROLLBACK, cancel.DELETED))

    async def ended(self, run_id: UUID, timeout: float) -> None:
        """Wait `timeout` seconds, or until the run has ended here if this process works on it."""
        attempt = self.worker.live.get(run_id)
        if attempt is not None and attempt.task is not None:
            await asyncio.wait({attempt.task}, timeout=timeout)
        else:
            await asyncio.sleep(timeout)

    def follow(self, run_id: UUID, cursor: EventId = BEGINNING) -> AsyncGenerator[list[Event]]:
        """The run's events after `cursor`, until its end. See `Follower.follow`."""
        return self.follower.follow(run_id, cursor)

    # Threads

    def hold(
        self, thread_id: UUID, *, owner: str, graph_id: str, assistant_id: UUID
    ) -> AbstractAsyncContextManager[Held]:
        """The thread for one writer that is no run. Raises NotFound and ThreadHeld."""
        return hold(
            self.database,
            self.group_commit,
            thread_id=thread_id,
            owner=owner,
            graph_id=graph_id,
            assistant_id=assistant_id,
            worker=self.worker_id,
            lease_seconds=self.worker.lease_seconds,
            offer=self.worker.offer,
        )

    async def refresh_thread(self, thread_id: UUID, *, clear_error: bool = False) -> None:
        """Read status, values and interrupts from the thread's head checkpoint into its row, if nothing runs on it.

        `clear_error` when its state was written since: then what failed before says nothing any more.
        """
        row = await self.database.fetch_one(_THREAD_GRAPH, {"thread_id": thread_id})
        if row is None:
            return
        facts = ThreadFacts("idle", None)
        known = row["head"] is None  # or else: another server's graph, whose state only that one can read
        if not known and row["graph_id"] in self.graphs.ids:
            try:
                facts, known = await self._read_thread(thread_id, row), True
            except DATABASE_UNAVAILABLE:
                raise
            except Exception as failure:  # its graph's factory, or a class that is no longer there
                problem = (isinstance(failure, _NotOpened) and failure.__cause__) or failure
                log.exception(
                    "the state of a thread cannot be read",
                    extra={"event": "thread.unreadable", "thread_id": str(thread_id)},
                )
                facts = ThreadFacts("error", None, {}, json_format.error_object(problem))
        params = {
            "thread_id": thread_id,
            "owner": row["owner"],
            "fence": row["fence"],
            "head": row["head"],
            "known": known,
            "status": facts.status if known or facts.error else None,
            "values": facts.values.decode() if facts.values is not None else None,
            "interrupts": Jsonb(facts.interrupts),
            "error": Jsonb(facts.error) if facts.error else None,
            "clear_error": clear_error,
        }
        await self.database.pipeline((order.LOCK, params), (_REFRESH, params))

    async def _read_thread(self, thread_id: UUID, row: Mapping[str, Any]) -> ThreadFacts:
        config = config_of(
            owner=row["owner"],
            graph_id=row["graph_id"],
            assistant_id=row["assistant_id"],
            thread_id=thread_id,
            stored={"configurable": of_a_thread(row["configurable"])},
        )
        await engine.load()
        graph_of = self.graphs.open(
            row["graph_id"],
            owner=row["owner"],
            config=config,
            access="threads.read",
            checkpointer=engine.PooledSaver(self.database),
            store=self.store_of(row["owner"]),
        )
        async with AsyncExitStack() as stack:
            try:
                graph = await stack.enter_async_context(graph_of)
            except Exception as problem:
                raise _NotOpened from problem
            status, values, interrupts = thread_facts(await graph.aget_state(config))
        return ThreadFacts(status, json_format.dumps(values) if values is not None else None, interrupts)

    # The sweep

    def sweep_also(self, name: str, act: Callable[[], Awaitable[object]]) -> None:
        """Let sweeps do something more."""
        self.sweeper.jobs[name] = act

    async def sweep(self) -> int:
        """All that sweeps do, now and once; how many runs were taken over.

        Raises, when all the rest is done, what has gone wrong first.
        """
        return await self.sweeper.sweep()


_HEAD = """(select max(k.checkpoint_id) from checkpoints k
  where k.thread_id = t.thread_id::text and k.checkpoint_ns = '')"""

_THREAD_GRAPH = f"""
select t.owner, t.fence, t.metadata ->> 'graph_id' as graph_id, t.metadata ->> 'assistant_id' as assistant_id, t.config -> 'configurable' as configurable, {_HEAD} as head
from slackwater.threads t where t.thread_id = %(thread_id)s"""

_REFRESH = f"""
update slackwater.threads t set
  "values" = case when %(known)s then %(values)s::jsonb else t."values" end,
  interrupts = case when %(known)s then %(interrupts)s else t.interrupts end,
  error = coalesce(%(error)s, case when %(clear_error)s then null else t.error end),
  -- What failed last, if nothing has been written since; a rollback has made the thread busy, and left its error.
  status = case when (t.status = 'error' or t.error ->> 'error' <> 'UserInterrupt') and not %(clear_error)s then 'error'
    else coalesce(%(status)s, case when t.status = 'busy' then 'idle' else t.status end) end,
  updated_at = clock_timestamp(), state_updated_at = clock_timestamp()
where t.thread_id = %(thread_id)s and not {order.THREAD_BUSY} and t.fence = %(fence)s
  and {_HEAD} is not distinct from %(head)s"""
# Compared again: since the head was read a run may have come and gone, and one that failed leaves no other head.
