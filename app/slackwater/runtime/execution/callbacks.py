"""Callbacks that a graph was compiled with: user code that is called when the graph itself has ended, and may hang."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackHandler

LAST_SECONDS = 5.0
"""How long they may take then, before the run ends without them."""


class Last(AsyncCallbackHandler):
    """Begins to count when the graph has ended: what began first, since nodes may call others with this handler alone."""

    def __init__(self, bound: asyncio.Timeout) -> None:
        self._bound = bound
        self._graph: UUID | None = None

    async def on_chain_start(
        self, serialized: Any, inputs: Any, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        self._graph = self._graph or run_id

    async def on_chain_end(
        self, outputs: Any, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        self._count(run_id)

    async def on_chain_error(
        self, error: BaseException, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        self._count(run_id)

    def _count(self, ended: UUID) -> None:
        if ended == self._graph and self._bound.when() is None:
            self._bound.reschedule(asyncio.get_running_loop().time() + LAST_SECONDS)
