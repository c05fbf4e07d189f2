"""Rows that are read one by one, up to a number of bytes; and the connection serves as before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from slackwater.errors import PageTooLarge
from slackwater.postgres import pool
from slackwater.postgres.pool import Database

ROWS = "select n, repeat('x', %(size)s) as text from generate_series(1, %(count)s) n"


@pytest.fixture
async def narrow(database_uri: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    """All of it goes over two connections, and a page has 10 kB."""
    monkeypatch.setattr(pool, "PAGE_BYTES", 10_000)
    database = Database(database_uri, max_size=2, statement_seconds=10.0, name="test")
    await database.open()
    yield database
    await database.close(5.0)


async def serves(database: Database) -> None:
    """Whatever the connections are asked for."""
    for _ in range(4):
        many = ("select n from generate_series(1, 5) n", None)
        assert [len(rows) for rows in await database.pipeline(many, many)] == [5, 5]
        assert len(await database.fetch(many[0])) == 5
        async with database.connection() as connection, connection.pipeline():
            cursor = await connection.execute(many[0])
            assert len(await cursor.fetchall()) == 5


async def test_a_page_that_fits_with_the_row_after_it(narrow: Database) -> None:
    rows = await narrow.fetch_page(ROWS, {"size": 900, "count": 11}, 10)
    assert [row["n"] for row in rows] == list(range(1, 12))
    assert await narrow.fetch_page(ROWS, {"size": 900, "count": 0}, 10) == []
    await serves(narrow)


async def test_a_page_that_does_not(narrow: Database) -> None:
    for count in (3, 100_000):
        with pytest.raises(PageTooLarge):
            await narrow.fetch_page(ROWS, {"size": 6000, "count": count}, 10)
        await serves(narrow)


async def test_one_row_however_large(narrow: Database) -> None:
    assert len(await narrow.fetch_page(ROWS, {"size": 50_000, "count": 1}, 1)) == 1
    assert len(await narrow.fetch_page(ROWS, {"size": 50_000, "count": 2}, 1)) == 2
    await serves(narrow)


async def test_whoever_goes_away_in_the_middle_leaves_nothing_behind(narrow: Database) -> None:
    slow = "select n, pg_sleep(0.02)::text from generate_series(1, 1000) n"
    reading = [asyncio.create_task(narrow.fetch_page(slow, None, 1000)) for _ in range(2)]
    await asyncio.sleep(0.2)
    for task in reading:
        task.cancel()
    await asyncio.wait(reading, timeout=5)
    assert all(task.cancelled() for task in reading)
    await serves(narrow)


async def test_a_statement_that_fails(narrow: Database) -> None:
    with pytest.raises(Exception, match="division by zero"):
        await narrow.fetch_page("select 1 / (n - 3) from generate_series(1, 5) n", None, 10)
    await serves(narrow)


async def test_a_stream_has_its_first_row_before_the_last_one_is_made(narrow: Database) -> None:
    # Large ones: the server collects 8 kB before it sends anything.
    endless = """select n, repeat('x', 20000), case when n > 3 then pg_sleep(60)::text end
                 from generate_series(1, 9) n"""
    rows = narrow.stream(endless)
    async with asyncio.timeout(5), aclosing(rows):
        assert [(await anext(rows))["n"] for _ in range(2)] == [1, 2]
    await serves(narrow)


async def test_a_stream_that_is_read_to_its_end(narrow: Database) -> None:
    assert [row["n"] async for row in narrow.stream(ROWS, {"size": 6000, "count": 50})] == list(range(1, 51))
    await serves(narrow)
