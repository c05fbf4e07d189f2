"""What nodes have of the memory of their run's owner. What they write is fenced by the run's lease."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

from slackwater.errors import RunOver
from slackwater.postgres.pool import Database
from slackwater.project.gateway import GatewaySpec
from slackwater.runtime.execution.owning_loop import OwningLoop
from slackwater.runtime.fenced import epochs
from slackwater.runtime.fenced.epochs import Standing
from slackwater.runtime.queue.lease import Acknowledged, Lease
from slackwater.workspace.memory import conversation, document, edit, queries
from slackwater.workspace.memory.document import Document
from slackwater.workspace.memory.proposal import with_facts
from slackwater.workspace.memory.told import told
from slackwater.workspace.of_run import OfRun

LONGEST = 10
"""So many times the debounce an update waits at most, while more is said all the time."""


class MemoryOfRuns:
    """The memories of all owners, for their runs."""

    def __init__(self, database: Database, spec: Callable[[], GatewaySpec]) -> None:
        self.database, self.spec = database, spec

    def of(self, owner: str, thread_id: UUID, lease: Lease, loop: OwningLoop) -> MemoryOfRun:
        """That of the owner of a run. Nothing is done yet."""
        return MemoryOfRun(self, owner, thread_id, lease, loop)


class MemoryOfRun(OfRun):
    """That of the owner of one attempt's run."""

    def __init__(
        self, all_: MemoryOfRuns, owner: str, thread_id: UUID, lease: Lease, loop: OwningLoop
    ) -> None:
        super().__init__(all_.database, owner, lease, loop)
        self._spec, self._thread_id = all_.spec, thread_id
        self._one_by_one = asyncio.Lock()
        """What is acknowledged last has to be what was written last."""

    async def read(self) -> Document:
        self._require()
        kept = await self._patiently(lambda: queries.read(self._database, self._owner))
        return document.read(kept.value)

    async def prompt(self) -> str:
        self._require()
        spec = self._spec().memory
        if not (spec.enabled and spec.injection_enabled):
            return ""
        return told(await self.read(), spec.max_injection_tokens)

    async def remember(self, content: str, category: str, confidence: float) -> None:
        self._require()
        if not content.strip() or not document.is_confidence(confidence):
            raise ValueError("A fact has a content that is not empty, and a confidence from 0 to 1.")
        spec = self._spec().memory
        if not spec.enabled:
            return
        fact = {"content": content, "category": category, "confidence": float(confidence)}
        source = str(self._thread_id)

        def change(now: Document) -> Document:
            facts = with_facts(now["facts"], [fact], source, spec.max_facts)
            return {**now, "facts": facts, "lastUpdated": document.now()}

        async def write() -> Acknowledged | None:
            after, allowed = await edit.apply(self._database, self._owner, change, queries.under(self._lease))
            return queries.written(self._owner, after) if allowed else None

        await self._fenced("memory", write)

    async def update(self, messages: Sequence[Any]) -> None:
        self._require()
        spec = self._spec()
        said = conversation.said(messages)
        if not said or spec.memory_model is None:
            return
        seconds = spec.memory.debounce_seconds

        async def write() -> Acknowledged | None:
            stored = await queries.put_update(
                self._database,
                self._lease,
                self._owner,
                self._thread_id,
                said,
                seconds=seconds,
                longest=LONGEST * seconds,
            )
            return queries.waits(self._owner, self._thread_id, said) if stored else None

        await self._fenced("memory update", write)

    async def _fenced(self, what: str, write: Callable[[], Awaitable[Acknowledged | None]]) -> None:
        """Write, unless the lease is gone or a failover has forgotten what was written under it. Raises RunOver.

        A write whose answer was lost is made again: a fact that is known is not added, and an update takes the place of itself.
        """
        async with self._one_by_one:
            stored = await self._patiently(write)
            if stored is None:
                standing = await self._patiently(lambda: epochs.look(self._database, self._lease))
                stored = await self._patiently(write) if standing is Standing.WHOLE else None
            if stored is None:
                raise RunOver
            self._lease.acknowledged[what] = stored
