"""Work that is done beside requests, again and again for as long as there is any."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

LAST_ROUNDS = 2
"""One that is at it when the end comes may not have what came last."""


class Repeated:
    """Done in a task of its own when it is due, never twice at a time. Belongs to one event loop."""

    def __init__(
        self, name: str, work: Callable[[], Awaitable[None]], due: Callable[[], float | None]
    ) -> None:
        """`due`: in how many seconds it has to be done, as things are; None: there is nothing to do."""
        self._name, self._work, self._due = name, work, due
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    def look(self) -> None:
        """There may be something to do, or sooner than before. Costs little, and never waits."""
        if self._task is not None or self._stopped:
            return  # it looks by itself when it is done
        seconds = self._due()
        if seconds is None:
            return
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if self._timer.when() <= loop.time() + seconds:
                return
            self._timer.cancel()
        self._timer = loop.call_later(seconds, self._begin)

    def _begin(self) -> None:
        self._timer = None
        if self._due() is not None:
            self._task = asyncio.create_task(self._run(), name=self._name)

    async def _run(self) -> None:
        try:
            await self._work()
        finally:
            self._task = None
            self.look()

    async def stop(self) -> None:
        """Do no more, nor go on with it."""
        self._end()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def finish(self, seconds: float) -> None:
        """Do within so many seconds what there is, and no more after that."""
        self._end()
        until = asyncio.get_running_loop().time() + seconds
        for _ in range(LAST_ROUNDS):
            if self._task is None:
                self._begin()
            if self._task is not None:
                await asyncio.wait({self._task}, timeout=max(0.0, until - asyncio.get_running_loop().time()))
        await self.stop()

    def _end(self) -> None:
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
