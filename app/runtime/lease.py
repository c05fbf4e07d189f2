"""The lease on a run: the right to write for it, until a moment."""

from __future__ import annotations

import time
from dataclasses import dataclass
from uuid import UUID


@dataclass(slots=True)
class Lease:
    """What a process has to prove with every write.

    `deadline` (monotonic seconds) is confirmed: counted from before the statement that took or renewed it.
    """

    run_id: UUID
    thread_id: UUID
    fence: int
    deadline: float
    lost: bool = False

    def valid(self) -> bool:
        """Whether this process may still act as the owner."""
        return not self.lost and time.monotonic() < self.deadline
