"""Slow imports: when they happen, and where.

They run one at a time in a thread of their own, so that the event loop is not blocked.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

# A single thread: with two, circular imports can hand out modules that are only half initialised.
_thread = ThreadPoolExecutor(1, thread_name_prefix="import")


def imports_are_lazy() -> bool:
    """Whether slow imports wait until something needs them, because a caller is waiting for this start.

    True on AWS Lambda, except in environments that are initialised long before their first invocation.
    """
    return (
        "AWS_LAMBDA_RUNTIME_API" in os.environ
        and os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand") == "on-demand"
    )


async def run_in_import_thread(work: Callable[[], T]) -> T:
    """Return what `work` returns. It continues if the caller is cancelled: an import cannot be interrupted."""
    return await asyncio.get_running_loop().run_in_executor(_thread, work)
