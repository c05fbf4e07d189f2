"""The checkpointer that LangGraph calls: reads from the pool, stores through the attempt's fenced writer.

All puts of a run share one queue with its events.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
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
)
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, RESUME
from psycopg import AsyncCursor
from psycopg.rows import DictRow

from slackwater.errors import LeaseLost
from slackwater.postgres.pool import Database
from slackwater.runtime.execution.clock import advance_past
from slackwater.runtime.execution.confined import Confined
from slackwater.runtime.execution.control import is_drain
from slackwater.runtime.execution.held_results import HeldResult, HeldResults
from slackwater.runtime.execution.node_files import RunFiles
from slackwater.runtime.execution.node_tasks import NodeTasks
from slackwater.runtime.execution.owning_loop import OwningLoop, from_any_loop
from slackwater.runtime.execution.puts import checkpoint_put, writes_put
from slackwater.runtime.execution.serializer import CheckpointSerializer
from slackwater.runtime.fenced.group import NULL_TASK_ID, WritesPut
from slackwater.runtime.fenced.records import tasks_of
from slackwater.runtime.fenced.statements import ANSWERED_BY_RUN
from slackwater.runtime.fenced.writer import Refused, Writer
from slackwater.runtime.queue.lease import Lease

_RESUMING = "__pregel_resuming"


class _NoLock:
    """Replaces the lock behind which the stock saver serialises all I/O of a process; the pool is limit enough."""

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...


class PooledSaver(AsyncPostgresSaver):
    """Reads checkpoints over the shared pool, without the stock saver's lock.

    Works from any thread and event loop: graphs are invoked in sync nodes, in tools and under `asyncio.run`.
    """

    def __init__(self, database: Database, check: Callable[[], None] | None = None) -> None:
        """`check` raises if callers in other threads or loops must stop waiting. It may not keep the checkpointer alive."""
        super().__init__(cast("Any", database.pool), serde=CheckpointSerializer())
        self.database = database
        self.owning_loop = OwningLoop(check)
        self.lock = _NoLock()  # type: ignore[assignment]

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
            # All at once: otherwise a slow node would hold a connection of the pool between two checkpoints.
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
        # The stock saver does this in a thread and keeps its connection, so that it would wait behind sync nodes.
        return PostgresSaver._load_checkpoint_tuple(cast("Any", self), value)

    # The sync methods, for code in a node's thread

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


class RunSaver(Confined, PooledSaver):
    """The checkpointer of one attempt: reads from the pool, stores through the attempt's writer."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        *,
        fresh: bool = False,
        base_id: str | None = None,
        keep_base: bool = True,
        confined: bool = False,
    ) -> None:
        """`confined`: user code can reach this checkpointer, and must not reach another thread through it."""
        super().__init__(database, partial(_check_lease, writer.lease))
        self.writer = writer
        self.own_thread = str(writer.lease.thread_id)
        self._confined = confined
        self.continues = False
        """The attempt continues a run that has begun."""
        self.node_tasks: NodeTasks | None = None
        """The node tasks of the attempt."""
        self.files: RunFiles | None = None
        """The files of the thread, as far as its nodes have asked for them."""
        self._results = HeldResults()
        self.stores_at_exit = False
        """Durability `exit`."""
        self.runs_ahead = False
        """Durability `async`: the graph does not wait for its puts."""
        self._base_id = base_id
        self._keep_base = keep_base
        # A new thread has no checkpoints but those that this attempt puts, so others need not be read.
        self._fresh = fresh
        self._put: set[str] = set()

    # Called by LangGraph

    @from_any_loop
    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        self._check(config)
        namespace = config["configurable"].get("checkpoint_ns", "")
        if self._fresh and namespace not in self._put and not get_checkpoint_id(config):
            return None
        await self.writer.written()
        found = await self.writer.retrying(lambda: super(RunSaver, self).aget_tuple(config))
        if found is not None:
            foreign = self._keep_base and str(found.metadata.get("run_id")) != str(self.writer.lease.run_id)
            if self.continues and _remembers(namespace) and not _of_this_superstep(found, config):
                # Our input `None` resumes subgraphs, too. One that keeps its state between calls and has not started in
                # this superstep would resume at the end of its last call, and do nothing (langgraph 1.2.22).
                config["configurable"].pop(_RESUMING, None)
            self.writer.has_read(namespace, found.checkpoint["id"], foreign=foreign)
            if namespace == "" and self.writer.head is None:
                self.writer.goes_on_from(found.checkpoint, found.metadata["step"])
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
            self.writer.failed_with(Refused())
            raise asyncio.CancelledError  # which LangGraph drops
        root = self._is_root(thread_id, namespace)
        try:
            put = checkpoint_put(self.serde, config, checkpoint, metadata, new_versions, is_head=root)
        except Exception as error:
            if root:
                self.writer.failed_with(error)
            raise
        self._put.add(namespace)
        if root and metadata.get("source") == "input" and self.files is not None:
            self.files.passed()  # nodes that run already have written for the next one
        elif self._uses_files(thread_id):
            try:
                await self._attach_files(namespace, checkpoint["id"])
            except Exception as error:
                self.writer.failed_with(error)
                raise
        if self.stores_at_exit and thread_id == self.own_thread and self.writer.records is not None:
            put.messages = self.writer.records.of_finished(tasks_of(namespace), metadata["step"])
        if not (self.runs_ahead and root):
            await self.writer.put(put)
        else:
            self.writer.hold(put)
            if metadata.get("source") == "input":
                self.writer.is_stored(
                    namespace, checkpoint["id"]
                )  # as good as stored: the run's row has the input
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
            # The node was cancelled between its end and its edges (langgraph 1.2.22, modes custom and messages). If its
            # writes were stored, it would count as finished, and the nodes behind its edges would silently never run.
            return
        if any(channel == ERROR and is_drain(value) for channel, value in writes):
            return  # a task whose inner graphs were drained has not failed
        if self._has_swallowed_a_drain(task_id) and all(
            channel not in WRITES_IDX_MAP for channel, _ in writes
        ):
            self.writer.failed_with(Refused())
            return
        configurable = config["configurable"]
        thread_id, namespace = str(configurable["thread_id"]), configurable.get("checkpoint_ns", "")
        put = writes_put(self.serde, config, writes, task_id, task_path, base_id=self._base_id)
        if task_id != NULL_TASK_ID and thread_id == self.own_thread:
            self.writer.works_from(namespace, configurable["checkpoint_id"])
        are_results = _are_results(put, task_id)
        if are_results and self._uses_files(thread_id):
            result = HeldResult(namespace, configurable["checkpoint_id"], task_id, put)
            if self._results.hold(result):
                return
        self._add_messages(put, task_id)
        if self.runs_ahead and self._is_root(thread_id, namespace) and are_results:
            self.writer.hold(put)
        else:
            await self.writer.put(put)

    def _add_messages(self, put: WritesPut, task_id: str) -> None:
        if self.writer.records is not None and _are_of_an_end(put, task_id):
            put.messages = self.writer.records.of_task(task_id)

    def _uses_files(self, thread_id: str) -> bool:
        return self.files is not None and self.files.used and thread_id == self.own_thread

    async def _attach_files(
        self, namespace: str = "", checkpoint_id: str = "", until: float = math.inf
    ) -> bool:
        """What nodes have changed among their files, and the results that have waited for it, go with what is put next.

        Returns whether there is any of it.
        """
        assert self.files is not None
        seen = self._results.now()
        await self.files.store(until)
        # From here to the put nothing may be awaited: all of it has to go in one transaction.
        if (changed := self.files.take()) is not None:
            self.writer.attach(changed)
        results = self._results.take(seen, namespace, checkpoint_id) if self.writer.takes_more else []
        for result in results:
            self._add_messages(result.put, result.task_id)
            self.writer.hold(result.put)
        return changed is not None or bool(results)

    def _is_root(self, thread_id: str, namespace: str) -> bool:
        return namespace == "" and thread_id == self.own_thread

    def _has_swallowed_a_drain(self, task_id: str) -> bool:
        """Whether a drain stopped a graph inside the task. The task has returned all the same, but is not finished."""
        stopped = self.node_tasks.stopped_inside if self.node_tasks is not None else {}
        return any(f":{task_id}|" in f"{namespace}|" for namespace in stopped)

    def _after_a_swallowed_drain(self, namespace: str, checkpoint: Checkpoint) -> bool:
        """Whether the checkpoint follows a superstep in which a task swallowed a drain.

        With durability `exit` the checkpoint before it is stored no sooner, so any swallowed drain counts.
        """
        if self.node_tasks is None:
            return False
        if self.stores_at_exit:
            return self.node_tasks.swallowed
        inside = f"{namespace}|" if namespace else ""
        return any(
            stopped.startswith(inside) and at < checkpoint["ts"]
            for stopped, at in list(self.node_tasks.stopped_inside.items())
        )

    @from_any_loop
    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        self._check(config)
        await self.writer.written()
        return await self.writer.retrying(
            lambda: super(RunSaver, self).aget_delta_channel_history(config=config, channels=channels)
        )

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

    # Called by the executor

    async def store_files(self) -> None:
        """Store what nodes have changed among their files since the last checkpoint: no other one follows."""
        if self._uses_files(self.own_thread) and await self._attach_files():
            await self.writer.store_attached()

    async def store_results(self) -> None:
        """The superstep was cut: store what has finished of it, without what the others have written since."""
        if self._results and await self._attach_files(until=self._results.latest):
            await self.writer.store_attached()

    async def keep_up(self) -> None:
        """Wait until a superstep may begin: its files are those of the checkpoint before."""
        await self.writer.keep_up()
        if self.files is not None and self.files.used:
            await self.files.settled()

    async def answered_interrupts(self) -> set[str]:
        """The ids of the interrupts whose resume values the run's tasks have consumed and stored."""
        params = {
            "run_id": self.writer.lease.run_id,
            "thread": self.own_thread,
            "resume": RESUME,
            "interrupt": INTERRUPT,
        }
        rows = await self.writer.retrying(lambda: self.database.fetch(ANSWERED_BY_RUN, params))
        found = [self.serde.loads_typed((row["type"], row["blob"])) for row in rows]
        return {
            interrupt.id
            for value in found
            for interrupt in (value if isinstance(value, list | tuple) else [value])
        }


def _are_results(writes: WritesPut, task_id: str) -> bool:
    """Whether these are the writes of a finished task, not a resume value, an interrupt or an error."""
    return task_id != NULL_TASK_ID and not writes.upsert and not writes.answers


def _are_of_an_end(writes: WritesPut, task_id: str) -> bool:
    """Whether a task has ended with these writes, and does not run again."""
    return task_id != NULL_TASK_ID and not writes.upsert


def _remembers(namespace: str) -> bool:
    """Whether the namespace is that of a subgraph compiled with `checkpointer=True`: its last part has no task id."""
    return namespace != "" and ":" not in namespace.rpartition("|")[2]


def _of_this_superstep(found: CheckpointTuple, config: RunnableConfig) -> bool:
    return found.metadata.get("parents") == config["configurable"].get("checkpoint_map")


def _check_lease(lease: Lease) -> None:
    if lease.lost or lease.over:
        raise LeaseLost
