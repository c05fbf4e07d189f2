from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.json import Jsonb
from psycopg_pool import PoolClosed, PoolTimeout
from support.impatience import impatient
from support.sessions import terminate, until_working

from slackwater.postgres import pool
from slackwater.postgres.pool import CANCEL_SECONDS, Database, StatementTimeout

MARGIN = 4.0  # seconds of scheduling on a busy machine: what is not bounded takes a minute here


@asynccontextmanager
async def opened(uri: str, *, max_size: int = 4) -> AsyncIterator[Database]:
    database = Database(uri, max_size=max_size, statement_seconds=10.0, name="test")
    await database.open()
    try:
        yield database
    finally:
        await database.close(5.0)


def name_of(uri: str) -> str:
    return str(conninfo_to_dict(uri)["dbname"])


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds + MARGIN


async def fill(database: Database, count: int) -> None:
    """Make the pool hold `count` idle connections."""
    await asyncio.gather(*(database.fetch("select pg_sleep(0.1)") for _ in range(count)))


async def test_a_statement_gives_rows_as_dicts(database: Database) -> None:
    assert await database.fetch("select n, n * 2 as double from generate_series(1, 2) n") == [
        {"n": 1, "double": 2},
        {"n": 2, "double": 4},
    ]
    assert await database.fetch_one("select %(a)s::text as a", {"a": "é"}) == {"a": "é"}
    assert await database.fetch_one("select 1 where false") is None
    await database.execute("create table t (n int)")
    assert await database.execute("insert into t select generate_series(1, 3)") == 3


async def test_json_survives_what_postgres_refuses(database: Database) -> None:
    value = {"nul": "a\0b", "escaped": "\\u0000", "big": 2**70, "deep": [1, {"x": None}]}
    row = await database.fetch_one("select %s as value", (Jsonb(value),))
    assert row == {"value": {**value, "nul": "a\ufffdb"}}


async def test_sessions_are_named_and_nothing_is_prepared(database: Database) -> None:
    async with database.connection() as connection:
        for _ in range(10):
            await connection.execute("select %s::int", (1,))
        cursor = await connection.execute(
            "select current_setting('application_name') as name, (select count(*) from pg_prepared_statements) as prepared"
        )
        assert await cursor.fetchone() == {"name": "slackwater test", "prepared": 0}


async def test_a_pipeline_returns_the_rows_of_each_statement(database: Database) -> None:
    await database.execute("create table t (n int primary key, at timestamptz default now())")
    assert await database.pipeline(
        ("insert into t (n) values (%s), (%s) returning n", (1, 2)),
        ("update t set n = n + 10", None),
        ("select n from t order by n", None),
        ("select count(distinct at) as moments from t", None),
        ("select 1 where false", None),
    ) == [[{"n": 1}, {"n": 2}], [], [{"n": 11}, {"n": 12}], [{"moments": 1}], []]
    assert await database.pipeline() == []


async def test_an_error_in_a_pipeline_is_the_statements_own_and_leaves_nothing_written(
    database: Database,
) -> None:
    await database.execute("create table t (n int primary key)")
    for _ in range(3):
        with pytest.raises(psycopg.errors.UniqueViolation):
            await database.pipeline(
                ("insert into t values (1)", None),
                ("insert into t values (%s)", (1,)),
                ("insert into t values (2)", None),
            )
    with pytest.raises(psycopg.errors.UndefinedTable):
        await database.pipeline(("insert into t values (3)", None), ("select * from nowhere", None))
    assert await database.fetch("select * from t") == []
    # THEN the connections are as good as before
    assert database.pool.get_stats().get("connections_lost", 0) == 0
    assert await database.pipeline(("select 1 as a", None)) == [[{"a": 1}]]


async def test_a_parameter_that_does_not_fit_raises_before_anything_is_sent(database: Database) -> None:
    await database.execute("create table t (n int)")
    with pytest.raises(psycopg.ProgrammingError):
        await database.pipeline(("insert into t values (1)", None), ("select %s", (1, 2)))
    with pytest.raises(psycopg.ProgrammingError, match="cannot adapt"):
        await database.pipeline(("insert into t values (1)", None), ("select %s", (object(),)))
    assert await database.fetch("select * from t") == []


async def test_a_pipeline_carries_megabytes_both_ways(database: Database) -> None:
    text = "x" * 3_000_000
    rows = await database.pipeline(*[("select %s::text as a, repeat('y', %s) as b", (text, len(text)))] * 4)
    assert [len(row[0]["a"]) + len(row[0]["b"]) for row in rows] == [6_000_000] * 4


async def test_a_late_statement_is_cancelled_in_the_server_too(database_uri: str) -> None:
    async with opened(database_uri) as database:
        await fill(database, 1)
        for attempt in (
            database.execute("select pg_sleep(60)"),
            database.fetch("select pg_sleep(60)"),
            database.pipeline(("select 1", None), ("select pg_sleep(60)", None), ("select 2", None)),
        ):
            with (
                at_most(0.3),
                impatient(database, 0.3),
                pytest.raises(StatementTimeout, match=r"0\.3 s"),
            ):
                await attempt
        # THEN nothing runs any more, and no connection was lost
        rows = await database.fetch(
            "select 1 from pg_stat_activity where query like '%pg_sleep(60)%' and state = 'active'"
            " and pid <> pg_backend_pid()"
        )
        assert rows == []
        assert database.pool.get_stats().get("connections_lost", 0) == 0


async def test_the_bound_holds_for_whoever_uses_a_connection(database_uri: str) -> None:
    async with opened(database_uri) as database:
        await fill(database, 1)
        with at_most(0.3), impatient(database, 0.3), pytest.raises(StatementTimeout):
            async with database.connection() as connection, connection.transaction():
                await connection.execute("select pg_sleep(60)")
        with at_most(0.3), impatient(database, 0.3), pytest.raises(StatementTimeout):
            async with database.connection() as connection, connection.pipeline():
                await connection.cursor().executemany("select pg_sleep(%s)", [(60,), (60,)])
        assert await database.fetch_one("select 1 as a") == {"a": 1}


@asynccontextmanager
async def frozen(database: Database) -> AsyncIterator[list[int]]:
    """The two sessions of the pool, stopped dead."""
    async with database.connection() as one, database.connection() as two:
        pids = [one.info.backend_pid, two.info.backend_pid]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield pids
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def test_a_server_that_does_not_answer_costs_the_bound_and_not_more(database_uri: str) -> None:
    async with opened(database_uri, max_size=2) as database:
        async with frozen(database) as pids:
            # WHEN a statement meets one THEN it ends, and its connection is thrown away
            with (
                at_most(0.3 + 2 * CANCEL_SECONDS),
                impatient(database, 0.3),
                pytest.raises(StatementTimeout),
            ):
                await database.fetch("select 1")
            # and so is the other one, which was made with it: nobody has to wait for that as well
            row = await database.fetch_one("select pg_backend_pid() as pid")
            assert row is not None
            assert row["pid"] not in pids
        async with frozen(database):
            # WHEN a waiting task is cancelled THEN it does not wait for the server
            task = asyncio.create_task(database.pipeline(("select 1", None)))
            await asyncio.sleep(0.05)
            task.cancel()
            with at_most(2 * CANCEL_SECONDS), pytest.raises(asyncio.CancelledError):
                await task
        assert await database.fetch_one("select 1 as a") == {"a": 1}


async def test_a_second_cancel_does_not_wait_at_all(
    database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "CANCEL_SECONDS", 20.0)
    async with opened(database_uri, max_size=1) as database:
        async with database.connection() as connection:
            pid = connection.info.backend_pid
        os.kill(pid, signal.SIGSTOP)
        try:
            task = asyncio.create_task(database.execute("select 1"))
            await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.sleep(0.01)
            started = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - started < 10
        finally:
            os.kill(pid, signal.SIGCONT)


async def test_a_cancelled_statement_ends_in_the_server_and_keeps_its_connection(database_uri: str) -> None:
    async with opened(database_uri, max_size=1) as database:
        before = await database.fetch_one("select pg_backend_pid() as pid")
        for statement in (
            database.execute("select pg_sleep(60)"),
            database.pipeline(("select pg_sleep(60)", None)),
        ):
            task = asyncio.create_task(statement)
            await asyncio.sleep(0.1)
            task.cancel()
            with at_most(0.1), pytest.raises(asyncio.CancelledError):
                await task
        assert await database.fetch_one("select pg_backend_pid() as pid") == before


async def test_sockets_that_died_idle_fail_nothing_not_even_a_write(
    database: Database, server_uri: str
) -> None:
    await database.execute("create table t (n int)")
    for kind in ("execute", "pipeline", "connection"):
        await fill(database, 4)
        terminate(server_uri, database)
        match kind:
            case "execute":
                await asyncio.gather(*(database.execute("insert into t values (1)") for _ in range(8)))
            case "pipeline":
                await asyncio.gather(
                    *(database.pipeline(("insert into t values (1)", None)) for _ in range(8))
                )
            case _:
                async with database.connection() as connection:
                    await connection.execute("insert into t values (1)")
    assert await database.fetch_one("select count(*) as n from t") == {"n": 17}


async def test_a_read_whose_connection_dies_is_sent_again(database: Database, server_uri: str) -> None:
    await fill(database, 4)
    task = asyncio.create_task(database.fetch("select 7 as n, pg_sleep(0.5)"))
    await until_working(database.conninfo, "select 7")
    terminate(server_uri, database)
    assert (await task)[0]["n"] == 7


@pytest.mark.parametrize("method", ["execute", "fetch", "pipeline"])
async def test_a_write_whose_connection_dies_is_never_sent_again(
    database: Database, server_uri: str, method: str
) -> None:
    await database.execute("create table t (n int)")
    await fill(database, 4)
    statement = "insert into t select 1 from pg_sleep(20) returning n"
    match method:
        case "pipeline":
            task = asyncio.create_task(database.pipeline((statement, None)))
        case _:
            task = asyncio.create_task(getattr(database, method)(statement))
    await until_working(database.conninfo, "insert into t")
    terminate(server_uri, database)
    with pytest.raises(psycopg.OperationalError):
        await task
    assert await database.fetch("select * from t") == []


async def test_a_wait_for_a_connection_is_bounded(database_uri: str) -> None:
    async with opened(database_uri, max_size=1) as database:
        async with database.connection():
            with at_most(0.3), impatient(database, 0.3), pytest.raises(PoolTimeout):
                await database.fetch("select 1")
        assert await database.fetch_one("select 1 as a") == {"a": 1}


async def test_a_cancelled_wait_for_a_connection_loses_none(database_uri: str) -> None:
    async with opened(database_uri, max_size=1) as database:
        async with database.connection():
            tasks = [asyncio.create_task(database.fetch("select 1")) for _ in range(5)]
            await asyncio.sleep(0.05)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        assert await database.fetch_one("select 1 as a") == {"a": 1}


async def test_a_cancel_that_meets_the_connection_waited_for_is_not_lost(database_uri: str) -> None:
    async with opened(database_uri, max_size=1) as database:

        async def use() -> None:
            async with database.connection():
                await asyncio.sleep(60)

        # GIVEN a wait that is cancelled each number of steps of the loop after a connection became free
        for steps in range(12):
            connection = await database.pool.getconn()
            waiting = asyncio.create_task(use())
            await asyncio.sleep(0.01)
            await database.pool.putconn(connection)
            for _ in range(steps):
                await asyncio.sleep(0)
            waiting.cancel()
            # THEN it ends at once, wherever it was, and the connection is free
            done, _ = await asyncio.wait({waiting}, timeout=10)
            assert done, f"the cancel after {steps} steps was lost"
            assert waiting.cancelled()
            assert await database.fetch_one("select 1 as a") == {"a": 1}


async def test_close_ends_every_session_and_may_be_called_again(database_uri: str, server_uri: str) -> None:
    async with opened(database_uri) as database:
        await fill(database, 4)
        await database.close(1.0)
        await database.close(1.0)
        with pytest.raises(PoolClosed):
            await database.fetch("select 1")
    with psycopg.connect(server_uri, autocommit=True) as watcher, at_most(5):
        query = "select from pg_stat_activity where datname = %s"
        while watcher.execute(query, (name_of(database_uri),)).rowcount:
            time.sleep(0.02)  # noqa: ASYNC251


async def test_a_pool_that_was_never_opened_can_be_closed() -> None:
    await Database("postgresql:///nothing", max_size=2, statement_seconds=1.0, name="test").close(1.0)


async def test_a_host_that_does_not_answer_holds_up_neither_the_start_nor_the_end() -> None:
    # GIVEN a host whose kernel accepts connections and where nobody says anything
    with socket.create_server(("127.0.0.1", 0)) as host:
        port = host.getsockname()[1]
        database = Database(
            f"postgresql://u@127.0.0.1:{port}/d", max_size=2, statement_seconds=0.3, name="test"
        )
        with at_most(0.0):
            await database.open()
        with at_most(0.3), pytest.raises(PoolTimeout):
            await database.fetch("select 1")
        with at_most(0.1 + CANCEL_SECONDS):
            await database.close(0.1)
        # THEN no task of the pool is left
        assert [task for task in asyncio.all_tasks() if "worker" in task.get_name()] == []
