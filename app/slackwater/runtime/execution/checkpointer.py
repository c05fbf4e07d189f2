"""The checkpointer of one run: what LangGraph calls, on top of the fenced writer.

Every put of a run goes through the writer's one queue, together with the run's events.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

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

from slackwater.errors import ForeignThread, LeaseLost
from slackwater.postgres import jsonb
from slackwater.postgres.group_commit import GroupCommit
from slackwater.postgres.pool import Database
from slackwater.runtime.events.journal import Journal
from slackwater.runtime.execution.bodies import Bodies
from slackwater.runtime.execution.clock import advance_past
from slackwater.runtime.execution.control import is_drain
from slackwater.runtime.execution.owning_loop import OwningLoop, from_any_loop
from slackwater.runtime.execution.serializer import CheckpointSerializer
from slackwater.runtime.fenced.statements import ANSWERED_BY_RUN
from slackwater.runtime.fenced.writer import NULL_TASK_ID, CheckpointPut, Refused, Writer, WritesPut
from slackwater.runtime.queue.lease import Lease

_RESUMING = "__pregel_resuming"


class _NoLock:
    """The stock saver serialises all I/O of a process behind one lock; the pool is bound enough."""

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...


class PooledSaver(AsyncPostgresSaver):
    """A reader of checkpoints over the shared pool, without the stock saver's lock.

    Works from any thread and any event loop: graphs are invoked in sync nodes, in tools, under `asyncio.run`.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(cast("Any", database.pool), serde=CheckpointSerializer())
        self.database = database
        self.owning_loop = OwningLoop(self._still_owned)
        self.lock = _NoLock()  # type: ignore[assignment]

    def _still_owned(self) -> None:
        """Raises what ends the wait of somebody in another thread or loop."""

    @asynccontextmanager
    async def _cursor(self, *, pipeline: bool = False) -> AsyncIterator[AsyncCursor[DictRow]]:
        async with self.database.gate.operation(), super()._cursor(pipeline=pipeline) as cursor:
            yield cursor

    @from_any_loop
    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        found = await super().aget_tuple(config)
        if found is not None:
            advance_past(found.checkpoint["id"])
        return found

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        asked = {"filter": filter, "before": before, "limit": limit}
        if self.owning_loop.here:
            async for found in super().alist(config, **cast("Any", asked)):
                yield found
        else:
            # All at once: a connection that waits for a node between two of them would be missed by others.
            for found in await self.owning_loop.run(lambda: self._listed(config, **asked)):
                yield found

    async def _listed(self, config: RunnableConfig | None, **asked: Any) -> list[CheckpointTuple]:
        return [found async for found in self.alist(config, **asked)]

    @from_any_loop
    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        return await super().aget_delta_channel_history(config=config, channels=channels)

    async def _load_checkpoint_tuple(self, value: DictRow) -> CheckpointTuple:
        # The stock saver takes a thread for this, and keeps its connection meanwhile: it would wait behind sync nodes.
        return PostgresSaver._load_checkpoint_tuple(cast("Any", self), value)

    # The same for sync code: in the thread of a node, or of a graph that one invokes

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self.owning_loop.call(lambda: self.aget_tuple(config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        asked = {"filter": filter, "before": before, "limit": limit}
        yield from self.owning_loop.call(lambda: self._listed(config, **asked))

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return self.owning_loop.call(lambda: self.aput(config, checkpoint, metadata, new_versions))

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        self.owning_loop.call(lambda: self.aput_writes(config, writes, task_id, task_path))

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        return self.owning_loop.call(
            lambda: self.aget_delta_channel_history(config=config, channels=channels)
        )


class RunSaver(PooledSaver, Writer):
    """The checkpointer of one attempt of one run."""

    def __init__(
        self,
        database: Database,
        lease: Lease,
        journal: Journal,
        group_commit: GroupCommit,
        *,
        fresh: bool = False,
        input_applied: bool = False,
        base_id: str | None = None,
        answer_is_input: bool = False,
        keep_base: bool = True,
        confined: bool = False,
    ) -> None:
        """`confined`: user code can get hold of it, and must not reach another thread through it."""
        PooledSaver.__init__(self, database)
        Writer.__init__(
            self,
            database,
            lease,
            journal,
            group_commit,
            input_applied=input_applied,
            answer_is_input=answer_is_input,
        )
        self.continues = False
        """The attempt goes on in the middle of the run."""
        self.bodies: Bodies | None = None
        """Those of its attempt."""
        self.stores_at_exit = False
        """Durability `exit`."""
        self.runs_ahead = False
        """Durability `async`: the graph goes on while what it has put is on its way."""
        self._confined = confined
        self._base_id = base_id
        self._keep_base = keep_base
        # A thread without checkpoints has nothing to read: what this attempt has not put is not there.
        self._fresh = fresh
        self._put: set[str] = set()

    def _still_owned(self) -> None:
        if self.lease.lost or self.lease.over:
            raise LeaseLost

    # What LangGraph calls

    @from_any_loop
    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        self._check(config)
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
            self._is_stored(namespace, found_id)
            if namespace == "" and self.head is None:
                self.head = found.checkpoint
                self.input_step = found.metadata["step"] + 1
        return found

    @from_any_loop
    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        self._check(config)
        configurable = config["configurable"]
        thread_id, namespace = str(configurable["thread_id"]), configurable.get("checkpoint_ns", "")
        if self._after_a_swallowed_drain(namespace, checkpoint):
            self._failed(Refused())
            raise asyncio.CancelledError  # which LangGraph drops
        root = self._is_root(thread_id, namespace)
        try:
            blobs, stored = self._split(checkpoint, new_versions)
            item = CheckpointPut(
                row=(
                    thread_id,
                    namespace,
                    checkpoint["id"],
                    configurable.get("checkpoint_id"),
                    jsonb.dumps(stored),
                    jsonb.dumps(get_serializable_checkpoint_metadata(config, metadata)),
                ),
                blobs=[(thread_id, namespace, *blob) for blob in blobs],
                head=checkpoint if root else None,
            )
        except Exception as error:
            if root:
                self._failed(error)
            raise
        self._put.add(namespace)
        self._queue.checkpoints.append(item)
        if not (self.runs_ahead and root):
            await self._enqueued()
        else:
            self._hold()
            if metadata.get("source") == "input":
                self._is_stored(namespace, checkpoint["id"])  # as good as: the run's row has the input
        return {
            "configurable": {
                "thread_id": thread_id,
                "checkpoint_ns": namespace,
                "checkpoint_id": checkpoint["id"],
            }
        }

    @from_any_loop
    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        self._check(config)
        if any(channel == ERROR and isinstance(value, asyncio.CancelledError) for channel, value in writes):
            # A node that was cancelled between its end and its edges (langgraph 1.2.22, modes custom and messages):
            # stored, its writes would count as finished, and what its edges lead to would be lost without a word.
            return
        if any(channel == ERROR and is_drain(value) for channel, value in writes):
            return  # a task group whose graphs were drained has not failed
        if self._has_swallowed_a_drain(task_id) and all(
            channel not in WRITES_IDX_MAP for channel, _ in writes
        ):
            self._failed(Refused())
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
        item = WritesPut(
            rows=rows,
            upsert=all(channel in WRITES_IDX_MAP for channel, _ in writes),
            # A fork's command waits on the checkpoint that it forks from, where a later start would not find it.
            root_input=task_id == NULL_TASK_ID and key[1] == "" and key[2] == self._base_id,
            answers=task_id != NULL_TASK_ID and any(channel == RESUME for channel, _ in writes),
        )
        if task_id != NULL_TASK_ID and key[0] == str(self.lease.thread_id):
            self._worked_from[key[1]] = max(self._worked_from.get(key[1], ""), key[2])
        self._queue.writes.append(item)
        if self.runs_ahead and self._is_root(*key[:2]) and _are_results(item, task_id):
            self._hold()
        else:
            await self._enqueued()

    def _is_root(self, thread_id: str, namespace: str) -> bool:
        return namespace == "" and thread_id == str(self.lease.thread_id)

    def _has_swallowed_a_drain(self, task_id: str) -> bool:
        """Whether a graph inside the task, which has ended all the same, was stopped by a drain: it did not finish."""
        stopped = self.bodies.stopped_inside if self.bodies is not None else {}
        return any(f":{task_id}|" in f"{namespace}|" for namespace in stopped)

    def _after_a_swallowed_drain(self, namespace: str, checkpoint: Checkpoint) -> bool:
        """Whether a superstep is to be stored in which a task has swallowed a drain.

        With durability `exit` the last one before it is stored no sooner; then only the next boundary tells.
        """
        if self.bodies is None:
            return False
        if self.stores_at_exit:
            return self.bodies.swallowed
        inside = f"{namespace}|" if namespace else ""
        return any(
            stopped.startswith(inside) and at < checkpoint["ts"]
            for stopped, at in list(self.bodies.stopped_inside.items())
        )

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

    @from_any_loop
    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        self._check(config)
        await self.written()
        return await self.patiently(
            lambda: super(RunSaver, self).aget_delta_channel_history(config=config, channels=channels)
        )

    # What nodes may call, since LangGraph hands it to them in their config

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        self._check(config)
        async for found in super().alist(config, filter=filter, before=before, limit=limit):
            yield found

    async def adelete_thread(self, thread_id: str) -> None:
        self._refuse_to("delete checkpoints")
        await super().adelete_thread(thread_id)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        self._refuse_to("delete checkpoints")
        await super().adelete_for_runs(run_ids)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        self._refuse_to("copy a thread")
        await super().acopy_thread(source_thread_id, target_thread_id)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        self._refuse_to("prune threads")
        await super().aprune(thread_ids, strategy=strategy)

    def _check(self, config: RunnableConfig | None) -> None:
        """Raises ForeignThread for a thread that is not the run's."""
        if not self._confined:
            return
        own = str(self.lease.thread_id)
        asked = None if config is None else config["configurable"].get("thread_id")
        if str(asked) != own:
            raise ForeignThread(
                f"A node of a run on thread {own} used the run's checkpointer for "
                f"{'all threads' if asked is None else f'thread {asked}'}. A run reads and writes the checkpoints of its own "
                "thread only. Call the inner graph without a thread_id in its config, compile it with a checkpointer of its own "
                "and leave the run's config out, or start a run on that thread through the API."
            )

    def _refuse_to(self, act: str) -> None:
        if self._confined:
            raise ForeignThread(f"A node cannot {act} through the run's checkpointer: use the API.")

    # What the executor calls

    @property
    def head_id(self) -> str | None:
        return self.head["id"] if self.head is not None else None

    async def answered_interrupts(self) -> set[str]:
        """The ids of the interrupts whose answers the run's tasks have taken and stored."""
        params = {
            "run_id": self.lease.run_id,
            "thread": str(self.lease.thread_id),
            "resume": RESUME,
            "interrupt": INTERRUPT,
        }
        rows = await self.patiently(lambda: self.database.fetch(ANSWERED_BY_RUN, params))
        found = [self.serde.loads_typed((row["type"], row["blob"])) for row in rows]
        return {
            interrupt.id
            for value in found
            for interrupt in (value if isinstance(value, list | tuple) else [value])
        }


def _are_results(writes: WritesPut, task_id: str) -> bool:
    """Whether it is what a finished task has written; and not an answer, an interrupt or an error."""
    return task_id != NULL_TASK_ID and not writes.upsert and not writes.answers


def _remembers(namespace: str) -> bool:
    """Whether it is a subgraph's that was compiled with `checkpointer=True`: no task's id is in its last part."""
    return namespace != "" and ":" not in namespace.rpartition("|")[2]


def _of_this_superstep(found: CheckpointTuple, config: RunnableConfig) -> bool:
    return found.metadata.get("parents") == config["configurable"].get("checkpoint_map")
