"""Wake-ups are few, come after what they are about, and may be lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import psycopg
import pytest

from slackwater.postgres.pool import Database
from slackwater.runtime.queue.wakeups import WakeUps


@pytest.fixture
async def listener(database_uri: str) -> AsyncIterator[psycopg.AsyncConnection]:
    async with await psycopg.AsyncConnection.connect(database_uri, autocommit=True) as connection:
        await connection.execute("listen slackwater")
        yield connection


async def _heard(database: Database, listener: psycopg.AsyncConnection) -> int:
    """How many hints have come until now: what is said last is heard last."""
    await database.execute("notify slackwater, 'that is all'")
    count = 0
    async with aclosing(listener.notifies(timeout=10)) as wakeups:
        async for hint in wakeups:
            if hint.payload == "that is all":
                return count
            count += 1
    raise AssertionError


async def test_a_crowd_of_hand_overs_needs_two_hints_at_most(
    database: Database, listener: psycopg.AsyncConnection
) -> None:
    wakeups = WakeUps(database)
    for _ in range(100):
        wakeups.send()
    await asyncio.sleep(0)  # the first is on its way: what is given now may not be covered by it
    for _ in range(100):
        wakeups.send()
    await wakeups.flush(5)
    assert await _heard(database, listener) in (1, 2)
    # AND one that comes later is sent again
    wakeups.send()
    await wakeups.flush(5)
    assert await _heard(database, listener) == 1


async def test_a_hint_that_cannot_be_sent_is_lost_in_silence(database: Database) -> None:
    wakeups = WakeUps(database)
    await database.close(1)
    wakeups.send()
    await wakeups.flush(5)
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "wakeups"]
