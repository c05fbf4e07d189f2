"""A bound for what may be user code: it ends in time, whatever it does with its cancellation."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)

UNWIND_SECONDS = 1.0
"""How long what was cancelled has for its own way out."""

_left: set[asyncio.Task[Any]] = set()
"""What has not let itself be cancelled: kept so that nobody collects it in the middle."""


async def bounded(work: Coroutine[Any, Any, T], seconds: float, default: T) -> T:
    """What `work` returns, or `default` if it takes longer than `seconds`. Raises what it raises."""
    task = asyncio.create_task(work, name=f"bounded:{getattr(work, '__name__', 'work')}")
    try:
        await asyncio.wait({task}, timeout=seconds)
        if task.done():
            return task.result()
        log.warning("%s has had its %g s", task.get_name(), seconds, extra={"event": "bounded.late"})
        return default
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=UNWIND_SECONDS)
        if not task.done():
            _left.add(task)
            task.add_done_callback(_left.discard)
            task.add_done_callback(_look_at)
        elif not task.cancelled():
            task.exception()


def _look_at(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()
