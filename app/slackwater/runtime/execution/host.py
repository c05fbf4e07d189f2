"""What an attempt needs from the process that executes it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from slackwater.postgres.group_commit import GroupCommit
from slackwater.postgres.pool import Database
from slackwater.runtime.execution.node_mcp import NodeMcp
from slackwater.runtime.execution.node_memory import NodeMemory
from slackwater.runtime.execution.node_skills import NodeSkills
from slackwater.runtime.execution.node_threads import NodeThreads
from slackwater.runtime.execution.outbox import Outbox
from slackwater.runtime.execution.own_calls import OwnCalls
from slackwater.runtime.queue.lease import Lease
from slackwater.runtime.queue.wakeups import WakeUps

if TYPE_CHECKING:
    from langgraph.store.base import BaseStore

    from slackwater.graphs.registry import Graphs


class AttemptHost(Protocol):
    """The runtime, as an attempt sees it."""

    database: Database
    graphs: Graphs
    threads: NodeThreads
    wakeups: WakeUps
    outbox: Outbox
    own_calls: OwnCalls
    node_memory: NodeMemory | None
    node_skills: NodeSkills | None
    node_mcp: NodeMcp | None
    max_handovers: int
    cut_seconds: float
    """How long an attempt that was cut may store what its tasks have finished."""
    settling: asyncio.Semaphore
    group_commit: GroupCommit

    @property
    def draining(self) -> bool: ...
    def store_of(self, owner: str, lease: Lease | None = None) -> BaseStore: ...
    async def refresh_thread(self, thread_id: UUID) -> None: ...
