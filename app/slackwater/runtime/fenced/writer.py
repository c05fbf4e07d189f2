"""The writer of one run: fenced, and together with other runs. It knows what is stored where, and nothing of LangGraph."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any, TypeVar, cast

from slackwater.errors import LeaseLost, RunOver
from slackwater.postgres.arrays import TextArray
from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE
from slackwater.postgres.group_commit import GroupCommit
from slackwater.postgres.pool import Database
from slackwater.runtime.events.journal import Event, Journal
from slackwater.runtime.fenced import epochs
from slackwater.runtime.fenced.epochs import Standing
from slackwater.runtime.fenced.group import NULL_TASK_ID, RESUME, CheckpointPut, Group, WritesPut
from slackwater.runtime.fenced.statements import StatementShape, event_columns, statement
from slackwater.runtime.fenced.stores import STORE, Store
from slackwater.runtime.queue.lease import Lease

T = TypeVar("T")

EVENT_FLUSH_SECONDS = 0.05
"""How long an event may wait for a checkpoint to be written with."""

HOLD_SECONDS = 0.02
"""How long a checkpoint that nothing waits for may, to be stored with what comes next: the one after it, or the run's end."""

IDLE_TURNS = 100
"""So many turns of the loop nothing is written: then LangGraph does not mean to put what is waited for."""

RETRY_SECONDS = (0.05, 1.0)
"""First and longest pause before something is sent again after a lost connection."""


class Refused(Exception):
    """This process is about to leave, and stores nothing more: the next one goes on from what is stored."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


class Forgotten(Refused):
    """A failover has forgotten what was stored before: what would follow it is not stored."""


class Writer:
    """Stores what one attempt of one run has to say: checkpoints, writes, events.

    Everything goes through one queue. What has gathered is stored with **one** statement that also proves the lease. So
    a superstep's events commit no later than its checkpoint, a stale process cannot write, and a superstep costs one
    round trip at most, which it shares with those of other runs. Whatever that has not stored is sent again alone, by a
    statement that decides. Statements are idempotent: after a lost connection they are simply sent again.

    Nobody may have to wait for what is put: then it is held until a superstep may not begin without it, and no longer than
    `HOLD_SECONDS`. What is held when the run ends is stored in the transaction that ends it.
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
    ) -> None:
        self.database = database
        self.lease = lease
        self.journal = journal
        self.input_applied = input_applied
        self.input_step = -1
        """The step that the run's first own checkpoint has; counts its supersteps over all attempts."""
        self.head: Any | None = None
        """The newest checkpoint of the thread's root graph that is stored, as far as this attempt knows."""
        self.failure: Exception | None = None
        """What the first write that was not stored has failed with: LeaseLost, Refused, or what Postgres says of it."""
        self.on_lost: Callable[[], None] | None = None
        """Called once when a write has shown that the lease is gone."""
        self.on_stored: Callable[[], None] | None = None
        """Called when events were stored."""
        self._answer_is_input = answer_is_input
        self._group_commit = group_commit
        self._foreign: set[tuple[str, str]] = set()
        """Checkpoints of earlier runs that the attempt has read, by namespace and id."""
        self._queue = Group()
        self._taken: tuple[Group, list[Event]] | None = None
        """What is on its way."""
        self._writer: asyncio.Task[None] | None = None
        self._worked_from: dict[str, str] = {}
        """The newest checkpoint that a finished task has worked from, by namespace."""
        self._stored: dict[str, str] = {}
        """The newest checkpoint that is stored, by namespace."""
        self._caught_up = asyncio.Event()
        self._context = copy_context()
        """Not that of a node whose put comes first: the writer works for none of them."""
        self._flush: asyncio.TimerHandle | None = None

    # What its checkpointer calls

    async def put(self, put: CheckpointPut | WritesPut) -> None:
        """Store it, with what has gathered. Raises what a write has failed with, and RunOver when the attempt has ended."""
        self._queue.add(put)
        if self.lease.over:
            raise RunOver
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.waiting.append(done)
        self._start_writer()
        await done

    def hold(self, put: CheckpointPut | WritesPut) -> None:
        """Keep it, to be stored with what comes next: nobody waits for it. Raises RunOver when the attempt has ended."""
        self._queue.add(put)
        if self.lease.over:
            raise RunOver
        self._soon(HOLD_SECONDS)

    def failed_with(self, error: Exception) -> None:
        """Something is not stored. Remember why: LangGraph drops what its puts fail with when something else ends the
        graph, a drain for one."""
        if self.failure is None:
            self.failure = LeaseLost() if self.lease.lost else error

    def has_read(self, namespace: str, checkpoint_id: str, *, foreign: bool) -> None:
        """The attempt has read a checkpoint; `foreign`: what tasks write to it is kept apart, since an earlier run has put it."""
        if foreign:
            self._foreign.add((namespace, checkpoint_id))
        self.is_stored(namespace, checkpoint_id)

    def goes_on_from(self, head: Any, step: int) -> None:
        """The head of the thread's root graph, as the attempt has found it first, and its step."""
        self.head, self.input_step = head, step + 1

    def is_stored(self, namespace: str, checkpoint_id: str) -> None:
        """No superstep has to wait for this one, nor for those before it."""
        self._stored[namespace] = max(self._stored.get(namespace, ""), checkpoint_id)

    def works_from(self, namespace: str, checkpoint_id: str) -> None:
        """A task that began from this checkpoint has finished: no superstep may begin before it is stored."""
        self._worked_from[namespace] = max(self._worked_from.get(namespace, ""), checkpoint_id)

    # What its owner calls

    @property
    def head_id(self) -> str | None:
        return self.head["id"] if self.head is not None else None

    def publish(self, name: str, data: bytes, series: str | None = None) -> None:
        """Log an event. It is written with the next checkpoint, or shortly after if none comes."""
        if self.lease.over or self.lease.forgotten:
            return  # its run was ended, or goes on, without whoever says this
        self.journal.append(name, data, series)
        self._soon(EVENT_FLUSH_SECONDS)

    async def wait_for_capacity(self) -> None:
        """Wait until it has kept up. Raises what a write has failed with."""
        await self.keep_up()
        if self.failure is not None:
            raise self.failure  # LangGraph looks at its puts only on its way out: the nodes would run on, unstored

    async def keep_up(self) -> None:
        """Wait until the checkpoints that the newest finished tasks worked from are stored.

        Called before a superstep begins: then a kill costs two of them at most with `async` durability, the one in
        flight and the one whose checkpoint is on its way. LangGraph itself queues any number of checkpoints.
        """
        await asyncio.sleep(0)  # what LangGraph has just submitted arrives in its next turn
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
        """The lease is gone: end what is on its way to the database, so that LangGraph's way out need not wait for it."""
        self.lease.lost = True
        if self._writer is not None and self._writer is not asyncio.current_task():
            self._writer.cancel()

    def hurry(self) -> None:
        """Somebody has waited long enough for what is on its way together with others: the connection may be silent."""
        self._group_commit.let_go(self)

    async def written(self) -> None:
        """Wait until everything enqueued so far is stored (or has failed). Events may go on waiting for what comes next."""
        while self._writer is not None or self._queue or self._taken is not None:
            if self._writer is None:
                self._start_writer()
            await asyncio.wait({cast("asyncio.Task[None]", self._writer)})

    async def flush(self) -> None:
        """Store what was published, now. Raises what a write has failed with."""
        await self.written()  # what is on its way now may have been taken before
        if self.journal.unwritten:
            self._start_writer()
        await self.written()
        if self.failure is not None:
            raise self.failure

    def take_events(self) -> list[Event]:
        """The events that still have to be written, for the statement that settles the run. Cancels the timer."""
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        return self.journal.take()

    async def retrying(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What `ask` answers, which may be carried out twice; while the database is away, for as long as the lease is ours."""
        pause = RETRY_SECONDS[0]
        while True:
            try:
                return await ask()
            except DATABASE_UNAVAILABLE:
                if not await self.lease.holds():
                    raise self._lost() from None
                await asyncio.sleep(pause * random.uniform(0.5, 1))
                pause = min(pause * 2, RETRY_SECONDS[1])

    # The task

    def _soon(self, seconds: float) -> None:
        """Store what has gathered with what comes next, or a moment later if nothing comes."""
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
            # Not a `finally` of its own: a task that is cancelled before its first turn never gets there.
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
            self._start_writer()  # it came between the writer's last look and now
        elif self._queue:
            self._soon(HOLD_SECONDS)
        elif self.journal.unwritten:
            self._soon(EVENT_FLUSH_SECONDS)  # tokens gather meanwhile: each statement has a price
        self._caught_up.set()

    async def _store(self) -> None:
        """Store what has gathered: with what other runs store, and if that does not work, alone."""
        try:
            self._look()
            if await self._group_commit.send(STORE, self) is None:
                await self._send(*self._take())
        except asyncio.CancelledError:
            # The gate is shut: nobody may write any more, and LangGraph drops a cancelled put silently.
            group, events = self._take()
            for waiter in group.waiting:
                waiter.cancel()
            self.failed_with(Refused())
            self.journal.written(events)
        except Exception as error:
            group, events = self._take()
            self.failed_with(error)
            self.journal.written(events)
            for waiter in group.waiting:
                if not waiter.done():
                    waiter.set_exception(error)
                    waiter.exception()  # a put that LangGraph has cancelled awaits nobody
        else:
            self._stored_all(*self._take())
        finally:
            self._taken = None
            self._caught_up.set()

    def _stored_all(self, group: Group, events: list[Event]) -> None:
        if self._applies_input(group):
            self.input_applied = True
        if (newest := group.newest(events)) is not None:
            self.lease.acknowledged["writer"] = newest
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

    def _take(self) -> tuple[Group, list[Event]]:
        """What is on its way; until then, what has gathered."""
        if self._taken is None:
            self._taken, self._queue = (self._queue, self.journal.take()), Group()
        return self._taken

    # What ends the run

    def hold_to_the_end(self) -> Any | None:
        """The root checkpoint that was put last, if it is held, and all that has gathered may be stored as the run ends.

        Then that is to be stored next: `take` has it, and `stored` or `written` follows.
        """
        heads = self._queue.heads
        if not heads or self._writer is not None or self.failure is not None or not self._goes_with_others:
            return None
        self.take_events()
        return heads[-1]

    def stored(self) -> None:
        """What was held to the end is stored."""
        self._stored_all(*self._take())
        self._taken = None

    # What the group commit asks

    @property
    def gathered_bytes(self) -> int:
        return self._queue.size + self.journal.unwritten_bytes

    @property
    def _goes_with_others(self) -> bool:
        # What does more than to insert rows does not.
        return not (
            self.lease.lost
            or self.lease.forgotten
            or self._queue.has_answers
            or self._queue.touched(self._foreign)
        )

    def take(self) -> Store | None:
        """What has gathered, for a statement that stores it with that of other runs."""
        if not self._goes_with_others:
            return None
        group, events = self._take()
        return Store(
            self.lease, self.input_step if self._applies_input(group) else None, group.rows(), events
        )

    async def _send(self, group: Group, events: list[Event]) -> None:
        shape, params = self._parameters(group, events)

        async def send() -> bool:
            """Whether it is stored. If not, the server was another one, and may take it now."""
            self._look()
            async with self._group_commit.alone, self.database.gate.operation():
                row = await self.database.fetch_one(statement(shape), params)
                stored = row is not None and row["owned"] > 0
                if not stored and await epochs.look(self.database, self.lease) is Standing.LOST:
                    raise self._lost()
            return stored

        # The statement is idempotent and fenced: sending it again is safe for as long as the lease is ours.
        while not await self.retrying(send):
            pass

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
        # With durability `exit` the answer itself is never stored as input, if a task has taken it before.
        return bool(group.heads or group.has_root_input or (self._answer_is_input and group.has_answers))

    def _look(self) -> None:
        """Raises what is known to end all writing under this lease, without asking the database, which may be silent."""
        if self.lease.lost:
            raise LeaseLost
        if self.lease.forgotten:
            raise Forgotten

    def _lost(self) -> LeaseLost:
        self.lease.lost = True
        if self.on_lost is not None:
            self.on_lost()
        return LeaseLost()
