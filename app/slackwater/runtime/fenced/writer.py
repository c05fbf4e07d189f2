"""The fenced writer of one run, which shares statements with other runs. It knows the tables, but nothing of LangGraph."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any, TypeVar, cast

from psycopg import Error

from slackwater.errors import LeaseLost, RunOver
from slackwater.postgres.arrays import TextArray
from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE
from slackwater.postgres.group_commit import GroupCommit
from slackwater.postgres.pool import Database
from slackwater.runtime.events.journal import Event, Journal
from slackwater.runtime.fenced import epochs
from slackwater.runtime.fenced.epochs import Standing
from slackwater.runtime.fenced.files import StoredFiles
from slackwater.runtime.fenced.group import NULL_TASK_ID, RESUME, CheckpointPut, Group, WritesPut
from slackwater.runtime.fenced.records import Records, Rows, TakenRecords
from slackwater.runtime.fenced.statements import OWNED, StatementShape, event_columns, statement
from slackwater.runtime.fenced.stores import STORE, Store
from slackwater.runtime.queue.lease import Acknowledged, Lease

T = TypeVar("T")

EVENT_FLUSH_SECONDS = 0.05
"""How long an event may wait for a checkpoint that it can be stored with."""

HOLD_SECONDS = 0.02
"""How long a checkpoint that nothing waits for is held, to be stored with the next one or with the end of the run."""

IDLE_TURNS = 100
"""After this many turns of the event loop without a write, LangGraph is not going to put the awaited checkpoint."""

RETRY_SECONDS = (0.05, 1.0)
"""First and longest pause before a retry after a lost connection."""


class Refused(Exception):
    """This process is about to leave and stores nothing more: the next one continues from what is stored."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


class Forgotten(Refused):
    """A failover lost writes of this attempt: nothing that would follow them is stored."""


class Writer:
    """Stores the checkpoints, writes and events of one attempt.

    Everything goes through one queue, which is stored with **one** statement that also checks the lease. A superstep's
    events therefore commit no later than its checkpoint, a stale process cannot write, and a superstep costs at most one
    round trip, shared with other runs. Whatever the shared statement leaves out is sent again alone. Statements are
    idempotent, so after a lost connection they are simply sent again.

    A put that nobody waits for is held until a superstep may not begin without it, for `HOLD_SECONDS` at most. What is held
    when the run ends is stored in the transaction that ends it.
    """

    def __init__(
        self,
        database: Database,
        lease: Lease,
        journal: Journal,
        group_commit: GroupCommit,
        *,
        input_applied: bool = False,
        answer_is_input: bool = False,
        records: Records | None = None,
    ) -> None:
        self.database = database
        self.lease = lease
        self.journal = journal
        self.records = records
        """Messages and token counts, if they are recorded."""
        self.input_applied = input_applied
        self.input_step = -1
        """The step of the run's first own checkpoint; supersteps of all attempts count from it."""
        self.head: Any | None = None
        """The newest stored checkpoint of the root graph, as far as this attempt knows."""
        self.failure: Exception | None = None
        """Why the first write that failed was not stored: LeaseLost, Refused, or Postgres's error."""
        self._broken: Exception | None = None
        """A statement was refused: checkpoints and results that follow it would lack what it had."""
        self.on_lost: Callable[[], None] | None = None
        """Called once, when a write finds the lease gone."""
        self.on_stored: Callable[[], None] | None = None
        """Called whenever events have been stored."""
        self._answer_is_input = answer_is_input
        self._group_commit = group_commit
        self._foreign: set[tuple[str, str]] = set()
        """Checkpoints of earlier runs that the attempt has read, by namespace and id."""
        self._queue = Group()
        self._taken: tuple[Group, list[Event]] | None = None
        """What is being sent."""
        self._before: dict[str, Acknowledged] = {}
        """What had been acknowledged when it was taken."""
        self._taken_records = TakenRecords()
        self._writer: asyncio.Task[None] | None = None
        self._worked_from: dict[str, str] = {}
        """The newest checkpoint that a finished task started from, by namespace."""
        self._stored: dict[str, str] = {}
        """The newest stored checkpoint, by namespace."""
        self._caught_up = asyncio.Event()
        self._context = copy_context()
        """Captured here, so that the writer does not run in the context of whichever node puts first."""
        self._flush: asyncio.TimerHandle | None = None

    # For the checkpointer

    async def put(self, put: CheckpointPut | WritesPut) -> None:
        """Store `put` with everything queued. Raises what the write fails with, and RunOver if the attempt has ended."""
        self._add(put)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.waiting.append(done)
        self._start_writer()
        await done

    def attach(self, files: StoredFiles) -> None:
        """Store what nodes have changed among their files with what is put next, in the same transaction."""
        self._queue.files = files if self._queue.files is None else self._queue.files.merged(files)

    async def store_attached(self) -> None:
        """Store what was attached although no checkpoint follows. Raises as `put` does."""
        if self.lease.over:
            raise RunOver
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.waiting.append(done)
        self._start_writer()
        await done

    def hold(self, put: CheckpointPut | WritesPut) -> None:
        """Queue `put`, to be stored with the next one; nobody waits for it. Raises RunOver if the attempt has ended."""
        self._add(put)
        self._soon(HOLD_SECONDS)

    def _add(self, put: CheckpointPut | WritesPut) -> None:
        if self._broken is not None:
            raise self._broken
        self._queue.add(put)
        if self.lease.over:
            raise RunOver

    def failed_with(self, error: Exception) -> None:
        """Remember why a write was not stored: LangGraph drops errors of its puts if something else, such as a drain, ends
        the graph."""
        if self.failure is None:
            self.failure = LeaseLost() if self.lease.lost else error

    def has_read(self, namespace: str, checkpoint_id: str, *, foreign: bool) -> None:
        """The attempt has read a checkpoint. `foreign`: an earlier run put it, so its writes are kept for a rollback."""
        if foreign:
            self._foreign.add((namespace, checkpoint_id))
        self.is_stored(namespace, checkpoint_id)

    def goes_on_from(self, head: Any, step: int) -> None:
        """Set the root checkpoint from which the attempt starts, and its step."""
        self.head, self.input_step = head, step + 1

    def is_stored(self, namespace: str, checkpoint_id: str) -> None:
        """This checkpoint and those before it are stored: no superstep has to wait for them."""
        self._stored[namespace] = max(self._stored.get(namespace, ""), checkpoint_id)

    def works_from(self, namespace: str, checkpoint_id: str) -> None:
        """A task that started from this checkpoint has finished: no superstep may begin before it is stored."""
        self._worked_from[namespace] = max(self._worked_from.get(namespace, ""), checkpoint_id)

    @property
    def takes_more(self) -> bool:
        """Whether checkpoints and results may still be stored: not once one of them was refused."""
        return self._broken is None

    # For the attempt

    @property
    def head_id(self) -> str | None:
        return self.head["id"] if self.head is not None else None

    def publish(self, name: str, data: bytes, series: str | None = None) -> None:
        """Log an event. It is stored with the next checkpoint, or soon after if none comes."""
        if self.lease.over or self.lease.forgotten:
            return  # the run has ended, or continues in another attempt
        self.journal.append(name, data, series)
        self._soon(EVENT_FLUSH_SECONDS)

    async def wait_for_capacity(self) -> None:
        """Wait as `keep_up` does. Raises what a write has failed with."""
        await self.keep_up()
        if self.failure is not None:
            raise self.failure  # LangGraph checks its puts only at its end: until then nodes would run without being stored

    async def keep_up(self) -> None:
        """Wait until the checkpoints from which the last finished tasks started are stored.

        Called before each superstep: with `async` durability a kill then costs two supersteps at most, the one in flight
        and the one whose checkpoint is being written. LangGraph itself queues any number of checkpoints.
        """
        await asyncio.sleep(0)  # what LangGraph has just submitted arrives in the next turn of the loop
        idle = 0
        while self._behind and self.failure is None and idle < IDLE_TURNS:
            if self._writer is None and self._queue:
                self._start_writer()
            elif self._writer is None:
                idle += 1
                await asyncio.sleep(0)
            else:
                idle = 0
                self._caught_up.clear()
                await self._caught_up.wait()

    @property
    def _behind(self) -> bool:
        return any(
            checkpoint_id > self._stored.get(namespace, "")
            for namespace, checkpoint_id in self._worked_from.items()
        )

    def abandon(self) -> None:
        """The lease is gone: cancel the write in flight, so that LangGraph does not wait for it as it ends."""
        self.lease.lost = True
        if self._writer is not None and self._writer is not asyncio.current_task():
            self._writer.cancel()

    def hurry(self) -> None:
        """Stop waiting for the shared write in flight, whose connection may be silent; it is sent again alone."""
        self._group_commit.let_go(self)

    async def written(self) -> None:
        """Wait until everything queued so far is stored or has failed. Events may stay queued."""
        while self._writer is not None or self._queue or self._taken is not None:
            if self._writer is None:
                self._start_writer()
            await asyncio.wait({cast("asyncio.Task[None]", self._writer)})

    async def flush(self) -> None:
        """Store all events now. Raises what a write has failed with."""
        await self.written()  # the write in flight may have been taken before the newest events
        if self.journal.unwritten:
            self._start_writer()
        await self.written()
        if self.failure is not None:
            raise self.failure

    def take_events(self) -> list[Event]:
        """Take the unwritten events, for the statement that settles the run. Cancels the timer."""
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        return self.journal.take()

    async def retrying(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Call `ask`, which must be idempotent, until the database answers. Raises LeaseLost once the lease is gone."""
        pause = RETRY_SECONDS[0]
        while True:
            try:
                return await ask()
            except DATABASE_UNAVAILABLE:
                if not await self.lease.holds():
                    raise self._lost() from None
                await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - no secret
                pause = min(pause * 2, RETRY_SECONDS[1])

    # The task

    def _soon(self, seconds: float) -> None:
        """Store what is queued with the next put, or after `seconds` if none comes."""
        if self._writer is not None:
            return
        loop = asyncio.get_running_loop()
        if self._flush is not None:
            if self._flush.when() <= loop.time() + seconds:
                return
            self._flush.cancel()
        self._flush = loop.call_later(seconds, self._start_writer)

    def _start_writer(self) -> None:
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        if self._writer is None:
            self._writer = asyncio.create_task(
                self._write(), name=f"writer:{self.lease.run_id}", context=self._context
            )
            # Not a `finally` in `_write`: a task that is cancelled before it first runs never reaches it.
            self._writer.add_done_callback(self._wrote)

    async def _write(self) -> None:
        await self._store()
        while self._queue.waiting:
            await self._store()

    def _wrote(self, writer: asyncio.Task[None]) -> None:
        self._writer = None
        if writer.cancelled():
            self.failed_with(Refused())
            for waiter in self._queue.waiting:
                waiter.cancel()
            self._queue = Group()
        elif self._queue.waiting:
            self._start_writer()  # queued after the writer last looked
        elif self._queue:
            self._soon(HOLD_SECONDS)
        elif self.journal.unwritten:
            self._soon(EVENT_FLUSH_SECONDS)  # let tokens collect: each statement costs a round trip
        self._caught_up.set()

    async def _store(self) -> None:
        """Store what is queued: together with other runs, or else alone."""
        try:
            self._look()
            if await self._group_commit.send(STORE, self) is None:
                await self._send(*self._take())
        except asyncio.CancelledError:
            # The gate is shut: nobody may write any more, and LangGraph silently drops a cancelled put.
            group, events = self._take()
            self._not_stored()
            for waiter in group.waiting:
                waiter.cancel()
            self.failed_with(Refused())
            self.journal.written(events)
        except Exception as error:
            group, events = self._take()
            self._not_stored()
            self.failed_with(error)
            self.journal.written(events)
            self._broken = error
            following, self._queue = self._queue, Group(files=self._queue.files)
            for waiter in (*group.waiting, *following.waiting):
                if not waiter.done():
                    waiter.set_exception(error)
                    waiter.exception()  # marks it as retrieved: nobody awaits a put that LangGraph has cancelled
        else:
            self._stored_all(*self._take())
        finally:
            self._taken = None
            self._caught_up.set()

    def _stored_all(self, group: Group, events: list[Event]) -> None:
        if self._applies_input(group):
            self.input_applied = True
        if (newest := group.newest(events)) is not None:
            self._acknowledge(newest)
        self.journal.written(events)
        if events and self.on_stored is not None:
            self.on_stored()
        for checkpoint in group.checkpoints:
            _, namespace, checkpoint_id = checkpoint.row[:3]
            self.is_stored(namespace, checkpoint_id)
            self.head = checkpoint.head or self.head
        for waiter in group.waiting:
            if not waiter.done():
                waiter.set_result(None)

    def _acknowledge(self, newest: Acknowledged) -> None:
        """It stands for all that others had stored under the lease before it was sent, too: WAL is replayed in order.

        Of that, what somebody changes meanwhile would look forgotten for as long as the run goes on.
        """
        for name, row in self._before.items():
            if self.lease.acknowledged.get(name) is row:
                del self.lease.acknowledged[name]
        self.lease.acknowledged["writer"] = newest

    def _take(self) -> tuple[Group, list[Event]]:
        """What is being sent. Takes what is queued if nothing is."""
        if self._taken is None:
            self._before = dict(self.lease.acknowledged)
            self._taken, self._queue = (self._queue, self.journal.take()), Group()
            if self.records is not None:
                group, _ = self._taken
                self._taken_records = self.records.take(group.said)
                group.records = self.records.rows(self._taken_records)
        return self._taken

    def _not_stored(self) -> None:
        """What is being sent is refused: it counts as not said, but its tokens are spent."""
        if self.records is not None:
            self.records.untake(self._taken_records)
            self._taken_records = TakenRecords()

    # For the end of the run

    def hold_to_the_end(self, *, ends: bool) -> Any | None:
        """The last root checkpoint, if it is still queued and the queue may be stored in the transaction that settles the run.

        `ends`: which ends the run, and stores whatever was said last. The caller then stores the queue by `take`, and calls `stored` or `written`.
        """
        heads = self._queue.heads
        if not heads or self._writer is not None or self.failure is not None or not self._goes_with_others:
            return None
        self.take_events()
        if ends and self.records is not None:
            self._queue.said += self.records.all()
        return heads[-1]

    def last_records(self, *, ends: bool) -> Rows:
        """Messages and token counts for the statement that settles the run, if nothing else is stored with it."""
        return self.records.last(ends=ends) if self.records is not None else {}

    def stored(self) -> None:
        """The transaction that ended the run has stored the queue."""
        self._stored_all(*self._take())
        self._taken = None

    # For the group commit

    @property
    def gathered_bytes(self) -> int:
        loose = self.records.loose_bytes if self.records is not None else 0
        return self._queue.size + self.journal.unwritten_bytes + loose

    @property
    def _goes_with_others(self) -> bool:
        # Only plain inserts can share a statement.
        return not (
            self.lease.lost
            or self.lease.forgotten
            or self._queue.files is not None
            or self._queue.has_answers
            or self._queue.touched(self._foreign)
        )

    def take(self) -> Store | None:
        """Take what is queued, for a statement shared with other runs; None if it needs one of its own."""
        if not self._goes_with_others:
            return None
        group, events = self._take()
        return Store(
            self.lease, self.input_step if self._applies_input(group) else None, group.rows(), events
        )

    async def _send(self, group: Group, events: list[Event]) -> None:
        shape, params = self._parameters(group, events)

        async def send() -> bool:
            """Whether the group is stored. If not, the database has failed over, and accepts it if sent again."""
            self._look()
            async with self._group_commit.alone, self.database.gate.operation():
                stored = await self._sent(group.files, statement(shape), params)
                if not stored and await epochs.look(self.database, self.lease) is Standing.LOST:
                    raise self._lost()
            return stored

        # Idempotent and fenced: safe to send again for as long as this attempt holds the lease.
        while not await self.retrying(send):
            pass

    async def _sent(self, files: StoredFiles | None, sql: str, params: dict[str, Any]) -> bool:
        """Send the statement, with the files in the same transaction; whether the lease allowed it."""
        if files is None:
            row = await self.database.fetch_one(sql, params)
            return row is not None and row["owned"] > 0
        try:
            (row,), *_ = await self.database.pipeline((sql, params), *files.statements(OWNED, self.lease.key))
        except Error as error:
            if (refusal := files.refusal(error)) is not None:
                raise refusal from None
            raise
        return bool(row["owned"] > 0)

    def _parameters(self, group: Group, events: list[Event]) -> tuple[StatementShape, dict[str, Any]]:
        lease = self.lease
        inserts, params = group.parameters()
        params |= lease.key
        if applies := self._applies_input(group):
            params["input_step"] = self.input_step
        if answers := group.has_answers:
            params["resume"], params["null_task"] = RESUME, NULL_TASK_ID
            params["thread"] = str(lease.thread_id)
        if touched := group.touched(self._foreign):
            params["thread"] = str(lease.thread_id)
            params["base_ns"] = TextArray([ns for ns, _ in touched])
            params["base_id"] = TextArray([cid for _, cid in touched])
            self._foreign -= touched
        if events:
            params["thread_id"] = lease.thread_id
            params |= event_columns(events)
        return StatementShape(applies, inserts, answers, bool(touched), bool(events)), params

    def _applies_input(self, group: Group) -> bool:
        if self.input_applied:
            return False
        # With durability `exit` a resume value that a task has consumed is never stored as input itself.
        return bool(group.heads or group.has_root_input or (self._answer_is_input and group.has_answers))

    def _look(self) -> None:
        """Raise if writing under this lease is known to be over. Does not ask the database, which may be silent."""
        if self.lease.lost:
            raise LeaseLost
        if self.lease.forgotten:
            raise Forgotten

    def _lost(self) -> LeaseLost:
        self.lease.lost = True
        if self.on_lost is not None:
            self.on_lost()
        return LeaseLost()
