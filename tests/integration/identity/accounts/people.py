"""Who logs in, whence, and what comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from support.command import Answer

from slackwater.identity.accounts.account import Device
from slackwater.identity.accounts.service import Accounts
from slackwater.postgres.pool import Database

MakeAccounts = Callable[..., Accounts]
Command = Callable[..., Awaitable[Answer]]

HERE = Device("203.0.113.5", "Firefox")
THERE = Device("198.51.100.7", "curl")
MARIA = "maria@example.com"
SECRET = "correct horse battery"
OTHER = "another horse battery"


async def caught(attempt: Awaitable[object]) -> type[BaseException] | None:
    """The kind of error that it ends with."""
    try:
        await attempt
    except Exception as error:
        return type(error)
    return None


async def until_waiting(database: Database, statement: str) -> None:
    """Until a session waits for a lock, in a statement with this in it."""
    async with asyncio.timeout(60):
        while not await database.fetch(
            "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database() "
            "and position(%s in query) > 0",
            [statement],
        ):
            await asyncio.sleep(0.01)
