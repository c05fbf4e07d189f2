"""Checkpoint ids sort by the wall clock of the process that makes them.

A process whose clock is behind would write checkpoints that sort before the thread's head, and the
thread would lose its head for ever. So the generator is moved past every id that this process sees.
"""

from __future__ import annotations

from uuid import UUID

from langgraph.checkpoint.base import id as generator


def advance_past(checkpoint_id: str) -> None:
    """Make the next checkpoint id of this process sort after `checkpoint_id` (a UUID version 6)."""
    # Private to LangGraph, with no public counterpart; tests/unit/runtime/test_clock.py fails if it moves.
    try:
        seen = UUID(checkpoint_id)
    except ValueError:
        return
    if seen.version == 6:
        ticks = (seen.time_low << 28) | (seen.time_mid << 12) | (seen.time_hi_version & 0x0FFF)
        last: int = generator._last_v6_timestamp or 0
        vars(generator)["_last_v6_timestamp"] = max(last, ticks)
