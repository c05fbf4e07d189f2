"""What an attempt needs of the process around it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from app.postgres.pool import Database
from app.runtime.group_commit import GroupCommit
from app.runtime.hints import Hints
from app.runtime.lease import Lease
from app.runtime.outbox import Outbox
from app.runtime.threads import NodeThreads

if TYPE_CHECKING:
    from langgraph.store.base import BaseStore

    from app.graphs.registry import Graphs


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
