"""Imported by every server process of a drill before anything else: a clock that is wrong."""

from __future__ import annotations

import os
import time


def _skew(seconds: float) -> None:
    """Shift the wall clock of this process, as on a machine whose clock is wrong. The monotonic clock is right."""
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + seconds
    time.time_ns = lambda: now_ns() + int(seconds * 1e9)


if "DRILL_CLOCK_SECONDS" in os.environ:
    _skew(float(os.environ["DRILL_CLOCK_SECONDS"]))
