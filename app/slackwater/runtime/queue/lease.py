"""The lease on a run: the right to write for it, until a moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, LiteralString, Protocol
from uuid import UUID


class Keeper(Protocol):
    """Renews leases, and asks the database about one whose deadline has passed."""

    async def confirm(self, lease: Lease) -> bool:
        """Wait until the lease is renewed (True), or is lost or must be presumed lost (False)."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A row that the database has acknowledged as stored."""

    is_there: LiteralString
    """The SQL condition that it is there. Parameters other than the lease's are in `key`."""
    key: Mapping[str, Any]


@dataclass(slots=True, eq=False)
class Lease:
    """What every write of a process has to prove.

    `deadline` (monotonic seconds) is safe: it counts from before the statement that took or renewed the lease.
    """

    run_id: UUID
    thread_id: UUID
    fence: int
    worker: str
    """Compared as well as the fence: a failover may lose a claim, and then its fence is used again."""
    deadline: float
    lost: bool = False
    over: bool = False
    """The attempt has ended here: code of it that still runs must not write, even if the fence would allow it."""
    forgotten: bool = False
    """A failover lost writes made under the lease: the run continues from what is stored, in another attempt."""
    on_forgotten: Callable[[], None] | None = None
    """Called once, when `forgotten` is set."""
    acknowledged: dict[str, Acknowledged] = field(default_factory=dict)
    """The newest row of each writer that uses the lease; without any, the claim itself stands for it."""
    keeper: Keeper | None = None
    """Renews it. Without a keeper the lease ends at its deadline."""

    @property
    def key(self) -> dict[str, Any]:
        """The parameters that a fenced statement compares."""
        return {"run_id": self.run_id, "fence": self.fence, "worker": self.worker}

    @property
    def gone(self) -> bool:
        """Whether code of the attempt that still runs may no longer read or write for its run."""
        return self.over or self.lost or self.forgotten

    def valid(self) -> bool:
        """Whether this process may act as the owner without asking."""
        return not self.lost and time.monotonic() < self.deadline

    async def holds(self) -> bool:
        """Whether this process is the owner. After the deadline, which a process that was frozen notices too late, the
        database decides: a lease that nobody has taken over is renewed."""
        if not self.lost and not self.valid() and self.keeper is not None:
            return await self.keeper.confirm(self)
        return self.valid()
