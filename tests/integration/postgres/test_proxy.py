"""The proxy that drills break their connections with loses what it is told to lose, and nothing else."""

from __future__ import annotations

import socket

import psycopg
import pytest
from support.impatience import impatient

from slackwater.postgres.pool import Database, StatementTimeout
from tests.support.proxy import Proxy, proxied


async def connected(proxy: Proxy) -> psycopg.AsyncConnection[tuple[int]]:
    return await psycopg.AsyncConnection.connect(proxy.uri, autocommit=True, connect_timeout=10)


async def test_an_answer_is_lost_after_the_statement_was_carried_out(
    database_uri: str, database: Database
) -> None:
    await database.execute("create table t (n int)")
    with proxied(database_uri) as proxy:
        first, second = await connected(proxy), await connected(proxy)
        proxy.lose_answers("insert into t")
        with pytest.raises(psycopg.OperationalError):
            await first.execute("insert into t values (%s)", (1,))
        proxy.lose_requests("insert into t")
        with pytest.raises(psycopg.OperationalError):
            await second.execute("insert into t values (%s)", (2,))
        async with await connected(proxy) as third:
            await third.execute("insert into t values (%s)", (3,))
        assert proxy.lost == 2
    assert await database.fetch("select n from t order by n") == [{"n": 1}, {"n": 3}]


async def test_it_goes_away_and_comes_back_elsewhere(database_uri: str, empty_database_uri: str) -> None:
    with proxied(database_uri) as proxy:
        connection = await connected(proxy)
        proxy.away()
        with pytest.raises(psycopg.OperationalError):
            await connection.execute("select 1")
        with pytest.raises(psycopg.OperationalError):
            await connected(proxy)
        proxy.target = empty_database_uri
        proxy.back()
        async with await connected(proxy) as again:
            cursor = await again.execute("select to_regnamespace('slackwater') is null")
            assert await cursor.fetchone() == (True,)


async def test_it_says_nothing_until_it_is_back(database_uri: str) -> None:
    with proxied(database_uri) as proxy:
        database = Database(proxy.uri, max_size=2, statement_seconds=10.0, name="test")
        await database.open()
        await database.fetch("select 1")
        proxy.silent()
        with impatient(database, 0.3), pytest.raises(StatementTimeout):
            await database.fetch("select 1")
        with socket.create_connection(("127.0.0.1", proxy.port)):
            pass
        proxy.back()
        await database.refresh()
        await database.fetch("select 1")
        await database.close(1.0)
