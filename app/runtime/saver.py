"""The checkpointer of one run: fenced, and written in groups.

Every put of a run goes through one queue. Its writer takes what has gathered (a superstep's checkpoint, its
tasks' writes, and the events since the last write) and stores it with **one** statement that also proves
the lease. So a superstep's events commit no later than its checkpoint, a stale process cannot write, and a
superstep costs one round trip. Statements are idempotent: after a lost connection they are simply sent again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar, cast
from uuid import UUID

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_id,
    get_serializable_checkpoint_metadata,
)
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, RESUME, _DeltaSnapshot
from psycopg import AsyncCursor
from psycopg.rows import DictRow

from app.errors import LeaseLost
from app.postgres import jsonb
from app.postgres.arrays import Array, ByteaArray, IntArray, JsonbArray, TextArray
from app.postgres.pool import Database
from app.postgres.trouble import DATABASE_TROUBLE
from app.runtime.clock import advance_past
from app.runtime.journal import Event, Journal

T = TypeVar("T")

_RESUMING = "__pregel_resuming"
NULL_TASK_ID = "00000000-0000-0000-0000-000000000000"
EVENT_FLUSH_SECONDS = 0.05
"""How long an event may wait for a checkpoint to be written with."""

IDLE_TURNS = 100
"""So many turns of the loop nothing is written: then LangGraph does not mean to put what is waited for."""

RETRY_SECONDS = (0.05, 1.0)
"""First and longest pause before a group is sent again after a lost connection."""


class _NoLock:
    """The stock saver serialises all I/O of a process behind one lock; the pool is bound enough."""

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...


class PooledSaver(AsyncPostgresSaver):
    """A reader of checkpoints over the shared pool, without the stock saver's lock."""

    def __init__(self, database: Database) -> None:
        super().__init__(cast("Any", database.pool))
        self.database = database
        self.lock = _NoLock()  # type: ignore[assignment]

    @asynccontextmanager
    async def _cursor(self, *, pipeline: bool = False) -> AsyncIterator[AsyncCursor[DictRow]]:
        async with self.database.gate.operation(), super()._cursor(pipeline=pipeline) as cursor:
            yield cursor

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        found = await super().aget_tuple(config)
        if found is not None:
            advance_past(found.checkpoint["id"])
        return found

    async def _load_checkpoint_tuple(self, value: DictRow) -> CheckpointTuple:
        # The stock saver takes a thread for this, and keeps its connection meanwhile: it would wait behind sync nodes.
        return PostgresSaver._load_checkpoint_tuple(cast("Any", self), value)


@dataclass(slots=True)
class Lease:
    """What a process has to prove with every write.

    `deadline` (monotonic seconds) is confirmed: counted from before the statement that took or renewed it.
    """

    run_id: UUID
    thread_id: UUID
    fence: int
    deadline: float
    lost: bool = False

    def valid(self) -> bool:
        """Whether this process may still act as the owner."""
        return not self.lost and time.monotonic() < self.deadline


@dataclass(slots=True)
class _Checkpoint:
    row: tuple[Any, ...]
    blobs: list[tuple[str, str, str, str, str, bytes]]
    root: bool


@dataclass(slots=True)
class _Writes:
    rows: dict[tuple[str, str, str, str, int], tuple[Any, ...]]
    upsert: bool
    root_input: bool
    answers: bool
    """A task has taken the run's resume value: it must not be offered to the next question."""


@dataclass(slots=True)
class _Group:
    """What one statement stores."""

    checkpoints: list[_Checkpoint] = field(default_factory=list)
    writes: list[_Writes] = field(default_factory=list)
    waiting: list[asyncio.Future[None]] = field(default_factory=list)


class RunSaver(PooledSaver):
    """The checkpointer of one attempt of one run."""

    def __init__(
        self,
        database: Database,
        lease: Lease,
        journal: Journal,
        *,
        fresh: bool = False,
        input_applied: bool = False,
        base_id: str | None = None,
        answer_is_input: bool = False,
        keep_base: bool = True,
        turn: AbstractAsyncContextManager[object] | None = None,
    ) -> None:
        super().__init__(database)
        self.lease = lease
        self.journal = journal
        self.input_applied = input_applied
        self.head: Checkpoint | None = None
        """The newest checkpoint of the root graph, as far as this attempt knows."""
        self.input_step = -1
        """The step that the run's first own checkpoint has; counts its supersteps over all attempts."""
        self.continues = False
        """The attempt goes on in the middle of the run."""
        self.failure: Exception | None = None
        self.on_lost: Callable[[], None] | None = None
        """Called once when a write has shown that the lease is gone."""
        self._base_id = base_id
        self._answer_is_input = answer_is_input
        self._keep_base = keep_base
        self._turn = turn or nullcontext()
        # A thread without checkpoints has nothing to read: what this attempt has not put is not there.
        self._fresh = fresh
        self._put: set[str] = set()
        self._foreign: set[tuple[str, str]] = set()
        self._queue = _Group()
        self._writer: asyncio.Task[None] | None = None
        self._worked_from: dict[str, str] = {}
        self._stored: dict[str, str] = {}
        self._caught_up = asyncio.Event()
        self._flush: asyncio.TimerHandle | None = None

    # What LangGraph calls

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        namespace = config["configurable"].get("checkpoint_ns", "")
        if self._fresh and namespace not in self._put and not get_checkpoint_id(config):
            return None
        await self.written()
        found = await self.patiently(lambda: super(RunSaver, self).aget_tuple(config))
        if found is not None:
            found_id = found.checkpoint["id"]
            if self._keep_base and str(found.metadata.get("run_id")) != str(self.lease.run_id):
                self._foreign.add((namespace, found_id))
            if self.continues and _remembers(namespace) and not _of_this_superstep(found, config):
                # Our `None` tells subgraphs to go on, too. One that keeps its state between calls and has not begun in
                # this superstep would go on from the end of its last call, and do nothing (langgraph 1.2.22).
                config["configurable"].pop(_RESUMING, None)
            self._stored[namespace] = max(self._stored.get(namespace, ""), found_id)
            if namespace == "" and self.head is None:
                self.head = found.checkpoint
                self.input_step = found.metadata["step"] + 1
        return found

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        configurable = config["configurable"]
        thread_id, namespace = str(configurable["thread_id"]), configurable.get("checkpoint_ns", "")
        blobs, stored = self._split(checkpoint, new_versions)
        item = _Checkpoint(
            row=(
                thread_id,
                namespace,
                checkpoint["id"],
                configurable.get("checkpoint_id"),
                jsonb.dumps(stored),
                jsonb.dumps(get_serializable_checkpoint_metadata(config, metadata)),
            ),
            blobs=[(thread_id, namespace, *blob) for blob in blobs],
            root=namespace == "" and thread_id == str(self.lease.thread_id),
        )
        self._put.add(namespace)
        if item.root:
            self.head = checkpoint
        self._queue.checkpoints.append(item)
        await self._enqueued()
        return {
            "configurable": {
                "thread_id": thread_id,
                "checkpoint_ns": namespace,
                "checkpoint_id": checkpoint["id"],
            }
        }

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        if any(channel == ERROR and isinstance(value, asyncio.CancelledError) for channel, value in writes):
            # A node that was cancelled between its end and its edges (langgraph 1.2.22, modes custom and messages):
            # stored, its writes would count as finished, and what its edges lead to would be lost without a word.
            return
        configurable = config["configurable"]
        key = (
            str(configurable["thread_id"]),
            configurable.get("checkpoint_ns", ""),
            configurable["checkpoint_id"],
        )
        rows = {}
        for position, (channel, value) in enumerate(writes):
            index = WRITES_IDX_MAP.get(channel, position)
            rows[(*key, task_id, index)] = (
                *key,
                task_id,
                task_path,
                index,
                channel,
                *self.serde.dumps_typed(value),
            )
        item = _Writes(
            rows=rows,
            upsert=all(channel in WRITES_IDX_MAP for channel, _ in writes),
            # A fork's command waits on the checkpoint that it forks from, where a later start would not find it.
            root_input=task_id == NULL_TASK_ID and key[1] == "" and key[2] == self._base_id,
            answers=task_id != NULL_TASK_ID and any(channel == RESUME for channel, _ in writes),
        )
        if task_id != NULL_TASK_ID and key[0] == str(self.lease.thread_id):
            self._worked_from[key[1]] = max(self._worked_from.get(key[1], ""), key[2])
        self._queue.writes.append(item)
        await self._enqueued()

    def _split(
        self, checkpoint: Checkpoint, new_versions: ChannelVersions
    ) -> tuple[list[tuple[str, str, str, bytes]], dict[str, Any]]:
        """Blobs to store apart, and the checkpoint with what is stored inline, as the stock saver lays them out."""
        values: dict[str, Any] = {}
        blobs: dict[str, Any] = {}
        for channel, value in checkpoint["channel_values"].items():
            if isinstance(value, _DeltaSnapshot):
                blobs[channel], values[channel] = value, True
            elif value is None or isinstance(value, str | int | float | bool):
                values[channel] = value
            else:
                blobs[channel] = value
        rows = [
            (channel, str(version), *self.serde.dumps_typed(blobs[channel]))
            for channel, version in new_versions.items()
            if channel in blobs
        ]
        return rows, {**checkpoint, "channel_values": values}

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        await self.written()
        return await self.patiently(
            lambda: super(RunSaver, self).aget_delta_channel_history(config=config, channels=channels)
        )

    async def patiently(self, read: Callable[[], Awaitable[T]]) -> T:
        """Read from the database; while it is away, for as long as the lease is ours."""
        pause = RETRY_SECONDS[0]
        while True:
            try:
                return await read()
            except DATABASE_TROUBLE:
                if time.monotonic() + pause > self.lease.deadline:
                    raise self._lost() from None
                await asyncio.sleep(pause * random.uniform(0.5, 1))
                pause = min(pause * 2, RETRY_SECONDS[1])

    # What the executor calls

    @property
    def head_id(self) -> str | None:
        return self.head["id"] if self.head is not None else None

    async def answered_interrupts(self) -> set[str]:
        """The ids of the interrupts whose answers the run's tasks have taken and stored."""
        params = {"run_id": self.lease.run_id, "thread": str(self.lease.thread_id)}
        rows = await self.patiently(lambda: self.database.fetch(_ANSWERED_BY_RUN, params))
        found = [self.serde.loads_typed((row["type"], row["blob"])) for row in rows]
        return {
            interrupt.id
            for value in found
            for interrupt in (value if isinstance(value, list | tuple) else [value])
        }

    def publish(self, name: str, data: bytes) -> None:
        """Log an event. It is written with the next checkpoint, or shortly after if none comes."""
        self.journal.append(name, data)
        if self._flush is None and self._writer is None:
            self._flush = asyncio.get_running_loop().call_later(EVENT_FLUSH_SECONDS, self._start_writer)

    async def breathe(self) -> None:
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
            if self._writer is None:
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

    async def written(self) -> None:
        """Wait until everything enqueued so far is stored (or has failed)."""
        while self._writer is not None:
            await asyncio.wait({self._writer})

    def take_events(self) -> list[Event]:
        """The events that still have to be written, for the statement that settles the run. Cancels the timer."""
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        return self.journal.take()

    # The writer

    async def _enqueued(self) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.waiting.append(done)
        self._start_writer()
        await done

    def _start_writer(self) -> None:
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        if self._writer is None:
            self._writer = asyncio.create_task(self._write(), name=f"writer:{self.lease.run_id}")
            # Not a `finally` of its own: a task that is cancelled before its first turn never gets there.
            self._writer.add_done_callback(self._wrote)

    async def _write(self) -> None:
        # A superstep's task writes and its checkpoint are submitted in neighbouring turns of the loop.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        while self._queue.waiting or self.journal.unwritten:
            async with self._turn:
                # Not before: what comes while others write is stored with it.
                group, self._queue = self._queue, _Group()
                await self._store(group)

    def _wrote(self, writer: asyncio.Task[None]) -> None:
        self._writer = None
        if writer.cancelled():
            self.failure = self.failure or LeaseLost()
            for waiter in self._queue.waiting:
                waiter.cancel()
            self._queue = _Group()
        elif self._queue.waiting or self.journal.unwritten:
            self._start_writer()  # it came between the writer's last look and now
        self._caught_up.set()

    async def _store(self, group: _Group) -> None:
        events = self.journal.take()
        try:
            await self._send(group, events)
        except asyncio.CancelledError:
            # The gate is shut: nobody may write any more, and LangGraph drops a cancelled put silently.
            for waiter in group.waiting:
                waiter.cancel()
            self.failure = LeaseLost()
            self.journal.written(len(events))
            return
        except Exception as error:
            self.failure = error
            self.journal.written(len(events))
            for waiter in group.waiting:
                if not waiter.done():
                    waiter.set_exception(error)
                    waiter.exception()  # a put that LangGraph has cancelled awaits nobody
        else:
            self.journal.written(len(events))
            for checkpoint in group.checkpoints:
                _, namespace, checkpoint_id = checkpoint.row[:3]
                self._stored[namespace] = max(self._stored.get(namespace, ""), checkpoint_id)
            for waiter in group.waiting:
                if not waiter.done():
                    waiter.set_result(None)
        finally:
            self._caught_up.set()

    async def _send(self, group: _Group, events: list[Event]) -> None:
        shape, params = _parameters(self, group, events)
        pause = RETRY_SECONDS[0]
        while True:
            if self.lease.lost:
                raise LeaseLost
            try:
                async with self.database.gate.operation():
                    row = await self.database.fetch_one(_statement(shape), params)
                break
            except DATABASE_TROUBLE:
                # The statement is idempotent and fenced: sending it again is safe for as long as the lease is ours.
                if time.monotonic() + pause > self.lease.deadline:
                    raise self._lost() from None
                await asyncio.sleep(pause * random.uniform(0.5, 1))
                pause = min(pause * 2, RETRY_SECONDS[1])
        if row is None or not row["owned"]:
            raise self._lost()
        if shape.applies_input:
            self.input_applied = True

    def _lost(self) -> LeaseLost:
        self.lease.lost = True
        if self.on_lost is not None:
            self.on_lost()
        return LeaseLost()


def _remembers(namespace: str) -> bool:
    """Whether it is a subgraph's that was compiled with `checkpointer=True`: no task's id is in its last part."""
    return namespace != "" and ":" not in namespace.rpartition("|")[2]


def _of_this_superstep(found: CheckpointTuple, config: RunnableConfig) -> bool:
    return found.metadata.get("parents") == config["configurable"].get("checkpoint_map")


@dataclass(frozen=True, slots=True)
class _Shape:
    """Which parts a statement has; one prepared text per shape."""

    applies_input: bool
    blobs: bool
    checkpoints: bool
    upserts: bool
    inserts: bool
    answers: bool
    base: bool
    events: bool


def _parameters(saver: RunSaver, group: _Group, events: list[Event]) -> tuple[_Shape, dict[str, Any]]:
    roots = [checkpoint for checkpoint in group.checkpoints if checkpoint.root]
    answers = any(writes.answers for writes in group.writes)
    # With durability `exit` the answer itself is never stored as input, if a task has taken it before.
    applies = not saver.input_applied and bool(
        roots or any(writes.root_input for writes in group.writes) or (answers and saver._answer_is_input)
    )
    params: dict[str, Any] = {"run_id": saver.lease.run_id, "fence": saver.lease.fence}
    if applies:
        params["input_step"] = saver.input_step
    blobs = {blob[:4]: blob for checkpoint in group.checkpoints for blob in checkpoint.blobs}
    if blobs:
        _columns(params, "b", blobs.values(), _BLOB_TYPES)
    checkpoints = {checkpoint.row[:3]: checkpoint.row for checkpoint in group.checkpoints}
    if checkpoints:
        _columns(params, "c", checkpoints.values(), _CHECKPOINT_TYPES)
    upserts: dict[Any, tuple[Any, ...]] = {}
    inserts: dict[Any, tuple[Any, ...]] = {}
    for writes in group.writes:
        for key, row in writes.rows.items():
            if answers and row[3] == NULL_TASK_ID and row[6] == RESUME:
                continue
            if writes.upsert:
                upserts[key] = row
            else:
                inserts.setdefault(key, row)
    if upserts:
        _columns(params, "u", upserts.values(), _WRITE_TYPES)
    if inserts:
        _columns(params, "i", inserts.values(), _WRITE_TYPES)
    if answers:
        params["resume"], params["null_task"] = RESUME, NULL_TASK_ID
        params["thread"] = str(saver.lease.thread_id)
    touched = {(key[1], key[2]) for writes in group.writes for key in writes.rows} & saver._foreign
    if touched:
        params["thread"] = str(saver.lease.thread_id)
        params["base_ns"] = TextArray([ns for ns, _ in touched])
        params["base_id"] = TextArray([cid for _, cid in touched])
        saver._foreign -= touched
    if events:
        params["thread_id"] = saver.lease.thread_id
        params |= event_columns(events)
    shape = _Shape(
        applies,
        bool(blobs),
        bool(checkpoints),
        bool(upserts),
        bool(inserts),
        answers,
        bool(touched),
        bool(events),
    )
    return shape, params


_BLOB_TYPES = (*[TextArray] * 5, ByteaArray)
_CHECKPOINT_TYPES = (*[TextArray] * 4, *[JsonbArray] * 2)
_WRITE_TYPES = (*[TextArray] * 5, IntArray, *[TextArray] * 2, ByteaArray)


def _columns(
    params: dict[str, Any], name: str, rows: Iterable[Sequence[Any]], types: Sequence[type[Array]]
) -> None:
    for position, (type_, column) in enumerate(zip(types, zip(*rows, strict=True), strict=True)):
        params[f"{name}{position}"] = type_(column)


def event_columns(events: Sequence[Event]) -> dict[str, Array]:
    """The parameters of `INSERT_EVENTS`."""
    return {
        "e0": IntArray([event.id.seq for event in events]),
        "e1": TextArray([event.name for event in events]),
        "e2": TextArray([event.data.decode() for event in events]),
    }


INSERT_EVENTS = """insert into slackwater.run_events (run_id, fence, seq, thread_id, event, data)
 select %(run_id)s, %(fence)s, e.seq, %(thread_id)s, e.event, e.data
 from owned, unnest(%(e0)b::int[], %(e1)b::text[], %(e2)b::text[]) as e(seq, event, data)
 on conflict do nothing"""
"""Writes a run's events under the fence; needs a CTE `owned`, and `event_columns`."""

_OWNED = """owned as (
 select 1 from slackwater.runs where run_id = %(run_id)s and fence = %(fence)s and status = 'running' for share)"""
# FOR SHARE conflicts with a take-over's UPDATE; FOR KEY SHARE would not.
_OWNED_INPUT = """owned as (
 update slackwater.runs set input_applied = true, input_step = %(input_step)s
 where run_id = %(run_id)s and fence = %(fence)s and status = 'running' returning 1)"""
_BASE = """base as (
 insert into slackwater.base_writes (run_id, thread_id, checkpoint_ns, checkpoint_id, writes)
 select %(run_id)s, %(thread)s, t.ns, t.id, coalesce((
   select jsonb_agg(jsonb_build_array(w.task_id, w.task_path, w.idx, w.channel, w.type, encode(w.blob, 'base64')))
   from checkpoint_writes w
   where w.thread_id = %(thread)s and w.checkpoint_ns = t.ns and w.checkpoint_id = t.id), '[]')
 from owned, unnest(%(base_ns)b::text[], %(base_id)b::text[]) as t(ns, id)
 on conflict do nothing)"""
_BLOBS = """blobs as (
 insert into checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
 select b.* from owned, unnest(%(b0)b::text[], %(b1)b::text[], %(b2)b::text[], %(b3)b::text[], %(b4)b::text[],
   %(b5)b::bytea[]) as b
 on conflict (thread_id, checkpoint_ns, channel, version) do nothing)"""
_CHECKPOINTS = """checkpoints_put as (
 insert into checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata)
 select c.* from owned, unnest(%(c0)b::text[], %(c1)b::text[], %(c2)b::text[], %(c3)b::text[], %(c4)b::jsonb[],
   %(c5)b::jsonb[]) as c
 on conflict (thread_id, checkpoint_ns, checkpoint_id)
 do update set checkpoint = excluded.checkpoint, metadata = excluded.metadata)"""
_WRITES = """{name} as (
 insert into checkpoint_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
 select w.* from owned, unnest(%({p}0)b::text[], %({p}1)b::text[], %({p}2)b::text[], %({p}3)b::text[],
   %({p}4)b::text[], %({p}5)b::int[], %({p}6)b::text[], %({p}7)b::text[], %({p}8)b::bytea[]) as w
 on conflict (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) {conflict})"""
_UPSERTS = _WRITES.format(
    name="writes_set",
    p="u",
    conflict="do update set channel = excluded.channel, type = excluded.type, blob = excluded.blob",
)
_INSERTS = _WRITES.format(name="writes_put", p="i", conflict="do nothing")
# LangGraph keeps the answer of `Command(resume=…)` as a pending write of no task, and a later start with None
# would offer it to the *next* question of the node that has taken it already.
_ANSWERED = """answered as (
 delete from checkpoint_writes w using owned
 where w.thread_id = %(thread)s and w.checkpoint_ns = '' and w.task_id = %(null_task)s and w.channel = %(resume)s)"""

_ANSWERED_BY_RUN = f"""
select i.type, i.blob from checkpoint_writes r
join checkpoint_writes i using (thread_id, checkpoint_ns, checkpoint_id, task_id)
join slackwater.base_writes b on b.run_id = %(run_id)s and b.checkpoint_ns = r.checkpoint_ns
  and b.checkpoint_id = r.checkpoint_id
where r.thread_id = %(thread)s and r.channel = '{RESUME}' and i.channel = '{INTERRUPT}'
  and not exists (select 1 from jsonb_array_elements(b.writes) w
    where w ->> 0 = r.task_id and w ->> 3 = '{RESUME}' and decode(w ->> 5, 'base64') = r.blob)"""


@lru_cache
def _statement(shape: _Shape) -> str:
    parts = [_OWNED_INPUT if shape.applies_input else _OWNED]
    parts += [
        part
        for wanted, part in (
            (shape.base, _BASE),
            (shape.blobs, _BLOBS),
            (shape.checkpoints, _CHECKPOINTS),
            (shape.upserts, _UPSERTS),
            (shape.inserts, _INSERTS),
            (shape.answers, _ANSWERED),
            (shape.events, f"events as ({INSERT_EVENTS})"),
        )
        if wanted
    ]
    return f"with {', '.join(parts)} select count(*)::int as owned from owned"
