"""Retries while the database is unreachable or fails over."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from psycopg_pool import PoolClosed

from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE

T = TypeVar("T")

PAUSE_SECONDS = (0.05, 1.0)
"""The first and the longest pause between attempts."""


async def retrying(attempt: Callable[[], Awaitable[T]], *, until: float) -> T:
    """Return what `attempt` returns, retrying it until `until` (monotonic). It may take effect twice. Raises DATABASE_UNAVAILABLE."""
    pause = PAUSE_SECONDS[0]
    while True:
        try:
            return await attempt()
        except PoolClosed:
            raise  # this process is shutting down
        except DATABASE_UNAVAILABLE:
            if time.monotonic() + pause > until:
                raise
        await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - no secret
        pause = min(pause * 2, PAUSE_SECONDS[1])
