"""The checkpoints of a thread that is not there yet."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.memory import InMemorySaver

from slackwater.postgres.group_commit import GroupCommit
from slackwater.postgres.pool import Database, Row
from slackwater.runtime.events.journal import Journal
from slackwater.runtime.execution.checkpointer import RunSaver
from slackwater.runtime.fenced.statements import statement
from slackwater.runtime.fenced.writer import gathered
from slackwater.runtime.queue.lease import Lease

_MAKE_THREAD = """owned as (
 insert into slackwater.threads (thread_id, owner, metadata, ttl_minutes, ttl_strategy, status, "values", interrupts,
   state_updated_at)
 values (%(thread_id)s, %(owner)s, %(metadata)s, %(ttl_minutes)s, %(ttl_strategy)s, %(status)s, %(values)s::jsonb,
   %(interrupts)s, clock_timestamp())
 on conflict (thread_id) do nothing
 returning *)"""


class DraftSaver(RunSaver):
    """Keeps everything in memory, and then stores it together with the thread, in one statement: all of it or nothing."""

    def __init__(self, database: Database, thread_id: UUID) -> None:
        super().__init__(
            database,
            Lease(thread_id, thread_id, 0, "", math.inf),
            Journal(0),
            GroupCommit(database),  # which it never uses
            input_applied=True,
            keep_base=False,
            confined=True,
        )
        self._memory = InMemorySaver(serde=self.serde)

    async def store(self, thread: Mapping[str, Any]) -> Row | None:
        """The thread's row; None if its id is taken, by whomever."""
        shape, params = gathered(self, self._queue)
        return await self.database.fetch_one(statement(shape, _MAKE_THREAD, "*"), {**params, **thread})

    async def _enqueued(self) -> None:
        """It stays in the queue."""

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        await self._memory.aput(config, checkpoint, metadata, new_versions)
        return await super().aput(config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        await self._memory.aput_writes(config, writes, task_id, task_path)
        await super().aput_writes(config, writes, task_id, task_path)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return await self._memory.aget_tuple(config)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        async for found in self._memory.alist(config, filter=filter, before=before, limit=limit):
            yield found

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        return await self._memory.aget_delta_channel_history(config=config, channels=channels)
