"""One deadline for everything that a stop has to do.

A `Budget` is made once, when the time runs out or a signal arrives, and handed to every phase of the
stop. Phases do not have time-outs of their own: they ask the budget how long they may still take.
"""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Budget:
    """A deadline on the monotonic clock and the reserves cut from its end. All figures are seconds.

    ```
    now ──────── ask ────────┬─ insist ─┬─ settle ─┐
                    drain_reserve   hard_reserve   deadline
    ```
    """

    deadline: float
    drain_reserve: float
    hard_reserve: float
    started: float

    @classmethod
    def of(cls, seconds: float, *, drain_reserve: float, hard_reserve: float) -> Budget:
        """A budget of `seconds` from now; reserves shrink in proportion when they do not fit."""
        now = time.monotonic()
        seconds = max(seconds, 0.0)
        # A window shorter than its reserves (Lambda's SIGTERM leaves 500 ms) still needs all three phases.
        scale = min(1.0, 0.8 * seconds / drain_reserve) if drain_reserve > 0 else 1.0
        return cls(now + seconds, drain_reserve * scale, hard_reserve * scale, now)

    def left(self) -> float:
        """Seconds until the deadline, never negative."""
        return max(0.0, self.deadline - time.monotonic())

    def left_to_ask(self) -> float:
        """Seconds in which runs may still reach their superstep boundary by themselves."""
        return max(0.0, self.deadline - self.drain_reserve - time.monotonic())

    def left_to_insist(self) -> float:
        """Seconds in which cancelled runs may still unwind."""
        return max(0.0, self.deadline - self.hard_reserve - time.monotonic())

    def left_to_leave(self) -> float:
        """Seconds in which what is not ours may shut down: half of what there is, if the reserve does not leave more."""
        left = self.left()
        return max(left - self.hard_reserve, left / 2)

    def spent_ms(self) -> float:
        """Milliseconds since the budget was made."""
        return (time.monotonic() - self.started) * 1000

    def total_ms(self) -> float:
        """The whole budget in milliseconds."""
        return (self.deadline - self.started) * 1000
