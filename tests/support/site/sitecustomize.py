"""Imported by every server process of a drill before anything else: coverage, and a clock that is wrong."""

from __future__ import annotations

import os
import time


def _measure() -> None:
    """Count the process's coverage, also when it leaves by `os._exit`, which runs no exit handlers."""
    import coverage

    coverage.process_startup()
    leave = os._exit

    def save_and_leave(code: int) -> None:
        measured = coverage.Coverage.current()
        if measured is not None:
            measured.stop()
            measured.save()
        leave(code)

    os._exit = save_and_leave  # type: ignore[assignment]


def _skew(seconds: float) -> None:
    """Shift the wall clock of this process, as on a machine whose clock is wrong. The monotonic clock is right."""
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + seconds
    time.time_ns = lambda: now_ns() + int(seconds * 1e9)


if "COVERAGE_PROCESS_START" in os.environ:
    _measure()
if "DRILL_CLOCK_SECONDS" in os.environ:
    _skew(float(os.environ["DRILL_CLOCK_SECONDS"]))
