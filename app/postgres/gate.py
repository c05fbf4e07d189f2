"""A gate in front of the pool for everything that a run writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from psycopg_pool import PoolClosed


class Gate:
    """Counts the operations of run writers (checkpoints, store, events) and, once shut, refuses new ones.

    LangGraph awaits its own checkpoint puts on the way out, but nobody awaits the writes of cancelled
    siblings. Whoever closes the pool shuts the gate first and waits until it is quiet, so that no writer can
    meet a closed pool.
    """

    def __init__(self) -> None:
        self.is_shut = False
        self.in_flight = 0
        self.refused = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    @asynccontextmanager
    async def operation(self) -> AsyncIterator[None]:
        """One operation on the pool. Raises CancelledError when the gate is shut.

        It is the one exception that LangGraph's executor drops without a word: there is nobody left to tell.
        """
        if self.is_shut:
            raise self._refusal()
        self.in_flight += 1
        self._quiet.clear()
        try:
            yield
        except PoolClosed:
            # The gate did not become quiet in time and the pool was closed under this operation's queue.
            if self.is_shut:
                raise self._refusal() from None
            raise
        finally:
            self.in_flight -= 1
            if not self.in_flight:
                self._quiet.set()

    def shut(self) -> None:
        """Refuse every operation from now on; those in flight may end."""
        self.is_shut = True

    async def quiesce(self, timeout: float) -> bool:
        """Wait `timeout` seconds for the operations in flight; False if some are left."""
        if not self.in_flight:
            return True
        try:
            async with asyncio.timeout(timeout):
                await self._quiet.wait()
        except TimeoutError:
            return False
        return True

    def _refusal(self) -> asyncio.CancelledError:
        self.refused += 1
        return asyncio.CancelledError("shutting down")
