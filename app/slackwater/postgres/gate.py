"""A gate in front of the pool for everything that a run writes."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from types import TracebackType

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

    def operation(self) -> AbstractAsyncContextManager[None]:
        """One operation on the pool. Raises CancelledError when the gate is shut.

        It is the one exception that LangGraph's executor drops without a word: there is nobody left to tell.
        """
        return self  # nothing is remembered of a single one

    async def __aenter__(self) -> None:
        if self.is_shut:
            raise self._refusal()
        self.in_flight += 1
        self._quiet.clear()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.in_flight -= 1
        if not self.in_flight:
            self._quiet.set()
        if self.is_shut and isinstance(error, PoolClosed):
            # The gate did not become quiet in time and the pool was closed under this operation's queue.
            raise self._refusal() from None

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
