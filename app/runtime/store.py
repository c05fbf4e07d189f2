"""The store that graphs get: LangGraph's own over the shared pool, behind the gate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from langgraph.store.postgres.aio import AsyncPostgresStore
from psycopg import AsyncCursor
from psycopg.rows import DictRow

from app.postgres.pool import Database


class GatedStore(AsyncPostgresStore):
    """`AsyncPostgresStore` whose every operation the gate counts, and whose batch task has an end."""

    def __init__(self, database: Database) -> None:
        super().__init__(cast("Any", database.pool))
        self._gate = database.gate

    @asynccontextmanager
    async def _cursor(self, *, pipeline: bool = False) -> AsyncIterator[AsyncCursor[DictRow]]:
        async with self._gate.operation(), super()._cursor(pipeline=pipeline) as cursor:
            yield cursor

    async def stop(self, timeout: float) -> None:
        """End the batch task, within `timeout` seconds."""
        task: asyncio.Task[Any] | None = getattr(self, "_task", None)
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=timeout)
