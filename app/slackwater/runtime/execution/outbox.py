"""The outbox that reports ended runs to others, as the runtime sees it."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Outgoing(Protocol):
    """Work that no caller waits for. What is not done here is done by another process."""

    async def idle(self, until: float) -> None:
        """Wait until nothing is being done that an invocation goes on for, or `until` (monotonic seconds). Nothing is broken off."""

    async def sent(self, timeout: float) -> None:
        """Wait at most `timeout` seconds until nothing is being done; leave the rest to others."""

    async def stop(self, timeout: float) -> None:
        """The same, and begin with nothing more."""


class Outbox(Outgoing, Protocol):
    """Sends what the database holds for it. What is not sent here is sent by the sweep of some process."""

    def nudge(self) -> None:
        """A run may have ended: look for something to send."""

    async def sweep(self) -> None:
        """Send what is due, and delete what is past its retention."""


class Outboxes:
    """An outbox, with what else has to end with it: none waits for another."""

    def __init__(self, outbox: Outbox, *others: Outgoing) -> None:
        self._outbox = outbox
        self._all = (outbox, *others)

    def nudge(self) -> None:
        self._outbox.nudge()

    async def sweep(self) -> None:
        await self._outbox.sweep()

    async def idle(self, until: float) -> None:
        await asyncio.gather(*(each.idle(until) for each in self._all))

    async def sent(self, timeout: float) -> None:
        await asyncio.gather(*(each.sent(timeout) for each in self._all))

    async def stop(self, timeout: float) -> None:
        await asyncio.gather(*(each.stop(timeout) for each in self._all))


class NoOutbox:
    """Sends nothing."""

    def nudge(self) -> None: ...
    async def sweep(self) -> None: ...
    async def idle(self, until: float) -> None: ...
    async def sent(self, timeout: float) -> None: ...
    async def stop(self, timeout: float) -> None: ...
