"""Imports that take long: one after the other, in a thread of their own, so that the event loop goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

# A single thread: two that import modules which import one another are handed half of them by Python.
_thread = ThreadPoolExecutor(1, thread_name_prefix="import")


async def in_turn(work: Callable[[], T]) -> T:
    """What `work` returns. It goes on when its caller is cancelled: an import cannot be stopped in the middle."""
    return await asyncio.get_running_loop().run_in_executor(_thread, work)
