"""Trying again while the database is away, or hands over to another server."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from psycopg_pool import PoolClosed

from slackwater.postgres.trouble import DATABASE_TROUBLE

T = TypeVar("T")

PAUSE_SECONDS = (0.05, 1.0)
"""First and longest pause before the next try."""


async def patiently(attempt: Callable[[], Awaitable[T]], *, until: float) -> T:
    """What `attempt` answers, which may be carried out twice; tried until `until` (monotonic). Raises DATABASE_TROUBLE."""
    pause = PAUSE_SECONDS[0]
    while True:
        try:
            return await attempt()
        except PoolClosed:
            raise  # this process is leaving
        except DATABASE_TROUBLE:
            if time.monotonic() + pause > until:
                raise
        await asyncio.sleep(pause * random.uniform(0.5, 1))
        pause = min(pause * 2, PAUSE_SECONDS[1])
