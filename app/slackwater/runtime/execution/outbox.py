"""What tells others of the ends of runs, as far as the runtime is concerned."""

from __future__ import annotations

from typing import Protocol


class Outbox(Protocol):
    """Sends what the database has for it: what is not sent here now is sent by somebody's sweep."""

    def nudge(self) -> None:
        """A run may have ended that somebody is to be told of, or may be told of again."""

    async def sweep(self) -> None:
        """Look for what is due, and for what is past keeping."""

    async def sent(self, timeout: float) -> None:
        """Wait, `timeout` seconds at most, until nothing more is being sent; leave the rest to others."""

    async def stop(self, timeout: float) -> None:
        """Send nothing more, ever."""


class NoOutbox:
    """Nobody is to be told."""

    def nudge(self) -> None: ...
    async def sweep(self) -> None: ...
    async def sent(self, timeout: float) -> None: ...
    async def stop(self, timeout: float) -> None: ...
