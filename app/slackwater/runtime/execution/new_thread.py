"""The checkpoints of a thread that does not exist yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata
from langgraph.checkpoint.memory import InMemorySaver

from slackwater.postgres.pool import Database, Row
from slackwater.runtime.execution.confined import Confined
from slackwater.runtime.execution.puts import checkpoint_put, writes_put
from slackwater.runtime.execution.serializer import CheckpointSerializer
from slackwater.runtime.fenced.group import Group
from slackwater.runtime.fenced.statements import StatementShape, statement

_MAKE_THREAD = """owned as (
 insert into slackwater.threads (thread_id, owner, metadata, ttl_minutes, ttl_strategy, status, "values", interrupts,
   state_updated_at)
 values (%(thread_id)s, %(owner)s, %(metadata)s, %(ttl_minutes)s, %(ttl_strategy)s, %(status)s, %(values)s::jsonb,
   %(interrupts)s, clock_timestamp())
 on conflict (thread_id) do nothing
 returning *)"""


class NewThreadSaver(Confined, InMemorySaver):
    """Collects checkpoints in memory, then stores them together with the thread, in one atomic statement."""

    def __init__(self, database: Database, thread_id: UUID) -> None:
        super().__init__(serde=CheckpointSerializer())
        self.own_thread = str(thread_id)
        self._database = database
        self._group = Group()

    async def store(self, thread: Mapping[str, Any]) -> Row | None:
        """Store everything, and return the thread's row; None if its id is taken."""
        inserts, params = self._group.parameters()
        shape = StatementShape(applies_input=False, inserts=inserts, answers=False, base=False, events=False)
        return await self._database.fetch_one(statement(shape, _MAKE_THREAD, "*"), {**params, **thread})

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        self._check(config)
        self._group.add(checkpoint_put(self.serde, config, checkpoint, metadata, new_versions, is_head=False))
        return super().put(config, checkpoint, metadata, new_versions)

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        self._check(config)
        self._group.add(writes_put(self.serde, config, writes, task_id, task_path))
        super().put_writes(config, writes, task_id, task_path)
