"""Imports that take long: when, and how.

They come one after the other, in a thread of their own, so that the event loop goes on.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

# A single thread: two that import modules which import one another are handed half of them by Python.
_thread = ThreadPoolExecutor(1, thread_name_prefix="import")


def late() -> bool:
    """Whether they wait until something needs them, because somebody waits for this start.

    So it is on AWS Lambda, but for environments that are initialised long before their first invocation.
    """
    return (
        "AWS_LAMBDA_RUNTIME_API" in os.environ
        and os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand") == "on-demand"
    )


async def in_turn(work: Callable[[], T]) -> T:
    """What `work` returns. It goes on when its caller is cancelled: an import cannot be stopped in the middle."""
    return await asyncio.get_running_loop().run_in_executor(_thread, work)
