"""What an attempt needs of the process around it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from slackwater.postgres.group_commit import GroupCommit
from slackwater.postgres.pool import Database
from slackwater.runtime.execution.node_threads import NodeThreads
from slackwater.runtime.execution.outbox import Outbox
from slackwater.runtime.queue.hints import Hints
from slackwater.runtime.queue.lease import Lease

if TYPE_CHECKING:
    from langgraph.store.base import BaseStore

    from slackwater.graphs.registry import Graphs


class Shop(Protocol):
    """The runtime, as far as an attempt is concerned."""

    database: Database
    graphs: Graphs
    threads: NodeThreads
    hints: Hints
    outbox: Outbox
    max_handovers: int
    settling: asyncio.Semaphore
    group_commit: GroupCommit

    @property
    def draining(self) -> bool: ...
    def store_of(self, owner: str, lease: Lease | None = None) -> BaseStore: ...
    async def refresh_thread(self, thread_id: UUID) -> None: ...
