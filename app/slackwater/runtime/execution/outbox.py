"""The outbox that reports ended runs to others, as the runtime sees it."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Outbox(Protocol):
    """Sends what the database holds for it. What is not sent here is sent by the sweep of some process."""

    def nudge(self) -> None:
        """A run may have ended: look for something to send."""

    async def sweep(self) -> None:
        """Send what is due, and delete what is past its retention."""

    async def sent(self, timeout: float) -> None:
        """Wait at most `timeout` seconds until nothing is being sent; leave the rest to others."""

    async def stop(self, timeout: float) -> None:
        """Stop sending, for good."""


class Outboxes:
    """Several, as one: none waits for another."""

    def __init__(self, *all_: Outbox) -> None:
        self._all = all_

    def nudge(self) -> None:
        for outbox in self._all:
            outbox.nudge()

    async def sweep(self) -> None:
        """Raises, when all are done, what has gone wrong first."""
        results = await asyncio.gather(*(outbox.sweep() for outbox in self._all), return_exceptions=True)
        for problem in results:
            if problem is not None:
                raise problem

    async def sent(self, timeout: float) -> None:
        await asyncio.gather(*(outbox.sent(timeout) for outbox in self._all))

    async def stop(self, timeout: float) -> None:
        await asyncio.gather(*(outbox.stop(timeout) for outbox in self._all))


class NoOutbox:
    """Sends nothing."""

    def nudge(self) -> None: ...
    async def sweep(self) -> None: ...
    async def sent(self, timeout: float) -> None: ...
    async def stop(self, timeout: float) -> None: ...
