"""Requests that have all read before the first of them writes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import httpx

from slackwater.postgres.pool import Database

_WAITING = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


async def at_once(
    database: Database, table: str, *requests: Coroutine[Any, Any, httpx.Response]
) -> list[httpx.Response]:
    """Their answers. Each must be about to write a row of the table that is there, and have a connection to do so."""
    async with database.connection() as connection, connection.transaction():
        await connection.execute(f"select from {table} for update".encode())
        asked = [asyncio.create_task(request) for request in requests]
        try:
            async with asyncio.timeout(30):
                while len(await database.fetch(_WAITING)) < len(requests):
                    await asyncio.sleep(0.01)
        except BaseException:
            for each in asked:
                each.cancel()
            await asyncio.wait(asked)
            raise
    return [await each for each in asked]
