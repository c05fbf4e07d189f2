"""The outbox that reports ended runs to others, as the runtime sees it."""

from __future__ import annotations

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


class NoOutbox:
    """Sends nothing."""

    def nudge(self) -> None: ...
    async def sweep(self) -> None: ...
    async def sent(self, timeout: float) -> None: ...
    async def stop(self, timeout: float) -> None: ...
