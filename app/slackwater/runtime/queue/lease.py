"""The lease on a run: the right to write for it, until a moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, LiteralString, Protocol
from uuid import UUID


class Keeper(Protocol):
    """Renews leases, and asks the database about one whose time is over."""

    async def confirm(self, lease: Lease) -> bool:
        """Wait until the lease is renewed, or is known or has to be taken to be lost; which."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A row that the database has said to have stored."""

    is_there: LiteralString
    """The condition for it, in SQL; its parameters beside the lease's own are `key`."""
    key: Mapping[str, Any]


@dataclass(slots=True, eq=False)
class Lease:
    """What a process has to prove with every write.

    `deadline` (monotonic seconds) is confirmed: counted from before the statement that took or renewed it.
    """

    run_id: UUID
    thread_id: UUID
    fence: int
    worker: str
    """Compared beside the fence: a failover may forget a claim, and its number with it."""
    deadline: float
    lost: bool = False
    over: bool = False
    """Its attempt has ended here: what of it still runs may write nothing more, not even what the fence would let in."""
    forgotten: bool = False
    """A failover has forgotten what was stored under it: the run goes on from what is there, in another attempt."""
    on_forgotten: Callable[[], None] | None = None
    """Called once when that is known."""
    acknowledged: dict[str, Acknowledged] = field(default_factory=dict)
    """The newest row of each who stores under it; before the first one the claim itself is that."""
    keeper: Keeper | None = None
    """Who renews it. Without one it ends with its deadline."""

    @property
    def key(self) -> dict[str, Any]:
        """What a fenced statement compares."""
        return {"run_id": self.run_id, "fence": self.fence, "worker": self.worker}

    def valid(self) -> bool:
        """Whether this process may act as the owner without asking."""
        return not self.lost and time.monotonic() < self.deadline

    async def holds(self) -> bool:
        """Whether this process is the owner. After the deadline, which a process that stood still sees too late, the
        database decides: a lease that nobody has taken is renewed."""
        if not self.lost and not self.valid() and self.keeper is not None:
            return await self.keeper.confirm(self)
        return self.valid()
