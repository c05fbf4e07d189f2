"""When something was known, in a process that may have been frozen since."""

from __future__ import annotations

import time
from typing import NamedTuple


class Moment(NamedTuple):
    """By both clocks: one stands still while an execution environment is frozen, the other may be set back."""

    monotonic: float
    epoch: float

    @classmethod
    def now(cls) -> Moment:
        return cls(time.monotonic(), time.time())

    @property
    def age(self) -> float:
        """Seconds since then, at most."""
        return max(time.monotonic() - self.monotonic, time.time() - self.epoch)
