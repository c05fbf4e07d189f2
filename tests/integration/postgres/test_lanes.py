"""Statements that are sent all the time are prepared once, on connections of their own, and nobody notices."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.json import Jsonb
from psycopg_pool import PoolClosed
from support.impatience import impatient
from support.sessions import sessions, terminate, until_working

from slackwater.postgres.arrays import LongArray, TextArray, UuidArray
from slackwater.postgres.connection_errors import ConnectionFault
from slackwater.postgres.lanes import Prepare, lanes_of
from slackwater.postgres.pool import Database, StatementTimeout
from slackwater.postgres.prepared import MAX_PREPARED

COUNT = "select count(*)::int as n from pg_prepared_statements"


@asynccontextmanager
async def opened(uri: str, *, max_size: int = 4, prepare: Prepare = "auto") -> AsyncIterator[Database]:
    database = Database(uri, max_size=max_size, statement_seconds=10.0, name="lanes", prepare=prepare)
    await database.open()
    try:
        yield database
    finally:
        await database.close(5.0)


@asynccontextmanager
async def lanes(database: Database) -> AsyncIterator[list[psycopg.AsyncConnection[Any]]]:
    """All of them; nobody else has one meanwhile."""
    taken = [await database.lanes.getconn() for _ in range(database.lanes.max_size)]
    try:
        yield cast("list[psycopg.AsyncConnection[Any]]", taken)
    finally:
        for connection in taken:
            await database.lanes.putconn(connection)


async def on_each(database: Database, sql: str) -> list[Any]:
    """The first column of what each lane answers."""
    async with lanes(database) as connections:
        rows = [await (await connection.execute(sql.encode())).fetchone() for connection in connections]
    return [next(iter(row.values())) if row else None for row in rows]


async def tell_each(database: Database, sql: str) -> None:
    async with lanes(database) as connections:
        for connection in connections:
            await connection.execute(sql.encode())


async def everywhere(database: Database, sql: str, params: dict[str, Any], times: int = 3) -> list[Any]:
    """Send something so often, and at once, that each lane has had it."""
    answers = []
    for _ in range(times):
        answers += await asyncio.gather(
            *(database.write((sql, params)) for _ in range(database.lanes.max_size * 2))
        )
    return answers


async def connected(database: Database) -> None:
    """Wait until no connection is in the making: it would be newer than what happens meanwhile."""
    async with lanes(database):
        await database.pool.wait(10)


async def ended(server_uri: str, database: Database, pids: set[int]) -> None:
    """Wait until none of these sessions is there: the server hears of a closed socket a moment after it was closed."""
    async with asyncio.timeout(10):
        while pids & sessions(server_uri, database):
            await asyncio.sleep(0.01)


# What is prepared


async def test_a_statement_is_prepared_once_per_lane_whatever_its_values_are(database: Database) -> None:
    await database.execute("create table t (n bigint, s text)")
    values = [{"n": 10**power, "s": "x" * power} for power in range(18)]
    await asyncio.gather(
        *(database.write(("insert into t values (%(n)s, %(s)s)", value)) for value in values * 3)
    )
    assert await database.fetch_one("select count(*) as n, max(n) as high from t") == {
        "n": 54,
        "high": 10**17,
    }
    assert set(await on_each(database, COUNT)) == {1}
    # THEN it is its own plan that is used, and not one for each of the values
    async with lanes(database) as connections:
        for connection in connections:
            row = await (
                await connection.execute("select generic_plans, custom_plans from pg_prepared_statements")
            ).fetchone()
            assert row is not None
            assert row["generic_plans"] > 0
            assert row["custom_plans"] == 0


async def test_only_the_lanes_plan_otherwise(database: Database) -> None:
    settings = "select concat_ws(' ', current_setting('plan_cache_mode'), current_setting('enable_seqscan'))"
    assert set(await on_each(database, settings)) == {"force_generic_plan off"}
    async with database.connection() as connection:
        row = await (await connection.execute(f"{settings} as set".encode())).fetchone()
        assert row == {"set": "auto on"}


async def test_never_prepares_nothing(database_uri: str) -> None:
    async with opened(database_uri, prepare="never") as database:
        await everywhere(database, "select %(n)s + 1 as n", {"n": 1})
        assert set(await on_each(database, COUNT)) == {0}
        assert set(await on_each(database, "show plan_cache_mode")) == {"auto"}


async def test_a_session_keeps_a_bounded_number_of_statements(database: Database) -> None:
    for n in range(2 * MAX_PREPARED + 40):
        assert await database.write((f"select %(n)s + {n} as n", {"n": 1})) == [[{"n": n + 1}]]
    assert max(await on_each(database, COUNT)) <= MAX_PREPARED


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("bigint", 0),
        ("bigint", -(2**63)),
        ("numeric", 2**63),
        ("int", 5),
        ("float8", 1 / 3),
        ("bool", True),
        ("text", ""),
        ("text", "ünï %s $1 '\n"),
        ("uuid", UUID(int=7)),
        ("uuid", "0190c8f0-1111-7222-8333-444455556666"),
        ("bytea", b"\x00\xff"),
        ("jsonb", Jsonb({"a": [1, None]})),
        ("jsonb", '{"a": 1}'),
        ("timestamptz", datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)),
        ("text[]", ["a", None]),
        ("text[]", []),
        ("uuid[]", [UUID(int=1)]),
        ("text[]", TextArray(["a", None])),
        ("bigint[]", LongArray([2**40])),
        ("uuid[]", UuidArray([])),
        ("text", None),
    ],
)
async def test_a_parameter_arrives_as_it_does_elsewhere(
    database: Database, type_: str, value: object
) -> None:
    sql = f"select %(value)s::{type_} as value, '100%%' as percent"
    for _ in range(3):
        (rows,) = await database.write((sql, {"value": value, "unused": 1}))
        assert rows == await database.fetch(sql, {"value": value, "unused": 1})


async def test_rows_are_what_they_are_elsewhere(database: Database) -> None:
    """Of every type that is asked for, of none, and of statements without any."""
    row = """1 as int, 2::bigint as bigint, 0.5::float8 as float, 1.50::numeric as numeric, true as yes, false as no, 'ü'::text as text,
      'd7b0a1f8-0000-7000-8000-000000000001'::uuid as uuid, '{"a": [1, null, 18446744073709551616]}'::jsonb as jsonb, 'null'::jsonb as
      json_null, null::jsonb as none, timestamptz '2026-01-02 03:04:05.000006+02' as at, interval '90 s' as took, 'x'::bytea as bytea,
      array[1, null] as ints, array['a', null, '{'] as texts, '{}'::text[] as empty, array[gen.n] as ns, gen.n as n,
      array['d7b0a1f8-0000-7000-8000-000000000001'::uuid] as uuids, array['{"b": 2}'::jsonb] as documents, 1 as "Ü b" """
    statements = [
        (f"select {row} from generate_series(1, 3) as gen(n)", {}),
        (f"select {row} from generate_series(1, 0) as gen(n)", {}),
        ("select from generate_series(1, 2)", {}),
        ("create temporary table t (n int)", {}),
        ("insert into t values (1), (2)", {}),
        ("update t set n = n + 1 returning n, null as nothing", {}),
        ("select 1 as same, 2 as same", {}),
        ("drop table t", {}),
        ("", {}),
    ]
    for _ in range(3):
        written = await database.write(*statements)
        assert written == await database.pipeline(*statements)
        assert [len(rows) for rows in written] == [3, 0, 0, 0, 0, 2, 1, 0, 0]
        kinds = {name: type(value) for name, value in written[0][0].items()}
        assert kinds["at"] is datetime
        assert kinds["uuid"] is UUID
        assert (kinds["yes"], kinds["none"], kinds["json_null"]) == (bool, type(None), type(None))


@pytest.mark.parametrize(
    "wrong",
    [
        "select 1 / (n - 2) as a from generate_series(1, 3) n",
        "insert into t values (9), (9)",
        "selekt",
        "select repeat('x', 2 * 10^9::int)",
        "select pg_terminate_backend(pg_backend_pid())",
    ],
)
async def test_what_fails_raises_what_it_does_elsewhere(database: Database, wrong: str) -> None:
    await database.execute("create table t (n int primary key)")
    statements = [("insert into t values (1)", {}), (wrong, {}), ("insert into t values (2)", {})]
    with pytest.raises(psycopg.Error) as elsewhere:
        await database.pipeline(*statements)
    for _ in range(3):
        with pytest.raises(psycopg.Error) as raised:
            await database.write(*statements)
        assert (type(raised.value), raised.value.sqlstate, str(raised.value)) == (
            type(elsewhere.value),
            elsewhere.value.sqlstate,
            str(elsewhere.value),
        )
    assert await database.fetch("select * from t") == []


@pytest.mark.parametrize("value", ["a\0b", object()])
async def test_a_parameter_that_does_not_fit_raises_before_anything_is_sent(
    database: Database, value: object
) -> None:
    await database.execute("create table t (s text)")
    with pytest.raises((psycopg.DataError, psycopg.ProgrammingError)):
        await database.write(
            ("insert into t values ('first')", {}), ("insert into t values (%(s)s)", {"s": value})
        )
    assert await database.fetch("select * from t") == []
    assert await everywhere(database, "select 1 as a", {}) == [[[{"a": 1}]]] * 12


async def test_statements_sent_together_are_one_transaction(database: Database) -> None:
    await database.execute("create table t (n int primary key)")
    insert = "insert into t values (%(n)s::int) returning n"
    for n in (1, 2, 3, 4):
        assert await database.write((insert, {"n": n}), (insert, {"n": -n}), ("select 1 as a", {})) == [
            [{"n": n}],
            [{"n": -n}],
            [{"a": 1}],
        ]
        with pytest.raises(psycopg.errors.UniqueViolation):
            await database.write((insert, {"n": n + 10}), (insert, {"n": n}), (insert, {"n": n + 20}))
    assert await database.fetch_one("select count(*) as n, max(n) as high from t") == {"n": 8, "high": 4}


async def test_a_statement_that_cannot_be_prepared_says_why(database: Database) -> None:
    for _ in range(4):
        with pytest.raises(psycopg.errors.UndefinedTable):
            await database.write(("select 1 as a", {}), ("select * from nowhere where n = %(n)s", {"n": 1}))
    await database.execute("create table nowhere (n int)")
    assert await everywhere(database, "select * from nowhere where n = %(n)s", {"n": 1}) == [[[]]] * 12


# What was prepared and is not there, or not right, any more


@pytest.mark.parametrize("lose", ["discard all", "deallocate all"])
async def test_statements_that_were_lost_are_sent_again_once(database: Database, lose: str) -> None:
    await database.execute("create table t (n int)")
    insert = "insert into t values (%(n)s::int)"
    await everywhere(database, insert, {"n": 1})
    await database.execute("truncate t")
    await tell_each(database, lose)
    assert set(await on_each(database, COUNT)) == {0}
    await everywhere(database, insert, {"n": 2}, times=1)
    await everywhere(database, insert, {"n": 3}, times=2)
    assert await database.fetch("select n, count(*) as times from t group by n order by n") == [
        {"n": 2, "times": 4},
        {"n": 3, "times": 8},
    ]
    # THEN it is prepared again
    assert set(await on_each(database, COUNT)) == {1}


async def test_one_that_was_lost_in_the_middle_of_others_writes_nothing_twice(database: Database) -> None:
    await database.execute("create table t (n int)")
    await tell_each(database, "select 1")  # now there are all of them, and they take turns
    statements = [(f"insert into t select {n} where %(yes)s", {"yes": True}) for n in range(5)]
    for _ in range(4):
        await database.write(*statements)
    async with lanes(database) as connections:
        for connection in connections:
            row = await (
                await connection.execute(
                    "select name from pg_prepared_statements where statement like '%select 3%'"
                )
            ).fetchone()
            assert row is not None
            await connection.execute(f'deallocate "{row["name"]}"'.encode())
    await database.execute("truncate t")
    await asyncio.gather(*(database.write(*statements) for _ in range(4)))
    assert await database.fetch("select n, count(*)::int as times from t group by n order by n") == [
        {"n": n, "times": 4} for n in range(5)
    ]


async def test_a_migration_under_a_prepared_statement_is_not_noticed(database: Database) -> None:
    await database.execute("create table t (n int)")
    await database.execute("create table seen (n int)")
    await database.execute("insert into t values (7)")
    both = (("insert into seen values (1)", {}), ("select n from t where n = %(n)s", {"n": 7}))
    for _ in range(4):
        assert (await database.write(*both))[1] == [{"n": 7}]
    for type_, expected in (("text using n::text", "7"), ("bigint using n::bigint", 7)):
        await database.execute(f"alter table t alter n type {type_}")
        for _ in range(6):
            sql = "select n from t where n::bigint = %(n)s"
            assert await database.write((sql, {"n": 7})) == [[{"n": expected}]]
    await database.execute("truncate seen")
    assert (await database.write(*both))[1] == [{"n": 7}]
    assert await database.fetch_one("select count(*)::int as n from seen") == {"n": 1}


# They are connections of the pool


@pytest.mark.parametrize(
    ("size", "expected"), [(1, 0), (2, 0), (3, 0), (4, 2), (5, 2), (6, 3), (8, 4), (40, 4)]
)
def test_lanes_are_half_of_the_connections_and_four_at_most(size: int, expected: int) -> None:
    assert lanes_of(size) == expected


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 10])
async def test_all_connections_together_are_as_many_as_the_setting_says(
    database_uri: str, server_uri: str, size: int
) -> None:
    async with opened(database_uri, max_size=size) as database:
        sleep = "select pg_sleep(0.05)"
        busy = [
            asyncio.create_task(coroutine)
            for _ in range(2 * size)
            for coroutine in (
                database.fetch(sleep),
                database.write((sleep, {})),
                database.pipeline((sleep, None)),
            )
        ]
        most = 0
        while not all(task.done() for task in busy):
            most = max(most, len(await asyncio.to_thread(sessions, server_uri, database)))
            await asyncio.sleep(0.01)
        await asyncio.gather(*busy)
        assert 0 < most <= size
        assert (
            database.pool.max_size + (database.lanes is not database.pool) * database.lanes.max_size == size
        )


@contextmanager
def takes_no_writes(server_uri: str, database: Database) -> Iterator[None]:
    """New sessions, that is: those that there are do not hear of it."""
    alter = f'alter database "{conninfo_to_dict(database.conninfo)["dbname"]}"'
    with psycopg.connect(server_uri, autocommit=True) as connection:
        connection.execute(f"{alter} set default_transaction_read_only = on".encode())
        yield
        connection.execute(f"{alter} reset default_transaction_read_only".encode())


async def test_what_a_lane_meets_concerns_all_connections(database: Database, server_uri: str) -> None:
    await database.execute("create table t (n int)")
    insert = "insert into t values (%(n)s::int)"
    await everywhere(database, insert, {"n": 0})
    await asyncio.gather(*(database.fetch("select pg_sleep(0.05)") for _ in range(4)))
    before = sessions(server_uri, database)
    with takes_no_writes(server_uri, database):
        await tell_each(database, "set default_transaction_read_only = on")
        writing = asyncio.create_task(database.write((insert, {"n": 1})))
        while database.fault is not ConnectionFault.READ_ONLY:
            await asyncio.sleep(0.01)
        reading = asyncio.create_task(database.fetch("select 1 as a"))
    # THEN what was to be written is written, once; and readers, too, have other connections
    await writing
    assert await reading == [{"a": 1}]
    assert database.fault is None
    assert await database.fetch("select n from t where n = 1") == [{"n": 1}]
    await ended(server_uri, database, before)


async def test_what_the_pool_meets_concerns_the_lanes(database: Database, server_uri: str) -> None:
    await everywhere(database, "select 1 as a", {})
    before = sessions(server_uri, database)
    connection = await database.pool.getconn()
    await connection.execute("set default_transaction_read_only = on")
    with pytest.raises(psycopg.OperationalError, match="read-only"):
        await connection.execute("create table t (n int)")
    await database.pool.putconn(connection)
    await everywhere(database, "select 1 as a", {})
    await ended(server_uri, database, before)


async def test_sockets_that_died_idle_fail_no_write(database: Database, server_uri: str) -> None:
    await database.execute("create table t (n int)")
    insert = "insert into t values (%(n)s::int)"
    await everywhere(database, insert, {"n": 0})
    terminate(server_uri, database)
    await everywhere(database, insert, {"n": 1}, times=1)
    assert await database.fetch_one("select count(*) as n from t where n = 1") == {"n": 4}
    # Perhaps by one of the new lanes alone, before the other one was there.
    async with lanes(database) as connections:
        for connection in connections:
            await connection.write([(insert, {"n": 2})])
    assert set(await on_each(database, COUNT)) == {1}


async def test_a_write_whose_connection_dies_is_never_sent_again(database: Database, server_uri: str) -> None:
    await database.execute("create table t (n int)")
    await everywhere(database, "select 1 as a", {})
    task = asyncio.create_task(database.write(("insert into t select 1 from pg_sleep(20)", {})))
    await until_working(database.conninfo, "insert into t select")
    terminate(server_uri, database)
    with pytest.raises(psycopg.OperationalError):
        await task
    await database.write(("select 1 as a", {}))
    assert await database.fetch("select * from t") == []


async def test_a_late_or_cancelled_write_ends_in_the_server(database_uri: str, server_uri: str) -> None:
    async with opened(database_uri) as database:
        await connected(database)
        sleep = ("select pg_sleep(60) as slept where %(n)s = 1", {"n": 1})
        for _ in range(3):
            with impatient(database, 0.5), pytest.raises(StatementTimeout):
                await database.write(sleep)
            task = asyncio.create_task(database.write(sleep))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        async with asyncio.timeout(10):
            while sessions(server_uri, database, "query like 'select pg_sleep%%' and state = 'active'"):
                await asyncio.sleep(0.01)
        assert await everywhere(database, "select 1 as a", {}) == [[[{"a": 1}]]] * 12


async def test_refresh_and_close_include_the_lanes(database_uri: str, server_uri: str) -> None:
    async with opened(database_uri) as database:
        await connected(database)
        before, moment = sessions(server_uri, database), time.monotonic()
        assert not database.made_anew_since(moment)
        await database.refresh()
        assert database.made_anew_since(moment)
        await everywhere(database, "select 1 as a", {})
        await ended(server_uri, database, before)
        # WHEN one is busy
        task = asyncio.create_task(database.write(("select pg_sleep(1)", {})))
        await asyncio.sleep(0)
        assert not await database.quiesce(0.01)
        assert await database.quiesce(20.0)
        await task
    with pytest.raises(PoolClosed):
        await database.write(("select 1 as a", {}))
    while sessions(server_uri, database):
        await asyncio.sleep(0.01)


# Poolers


def keeps_statements() -> bool:
    """Whether this PgBouncer can, which is: from 1.21 on."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None
    said = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
    version = re.search(r"PgBouncer (\d+)\.(\d+)", said)
    assert version is not None, said
    return (int(version[1]), int(version[2])) >= (1, 21)


@pytest.mark.pgbouncer
@pytest.mark.parametrize("prepare", ["auto", "always", "never"])
@pytest.mark.parametrize(("mode", "size"), [("transaction", 1), ("transaction", 3), ("session", 6)])
async def test_no_statement_fails_behind_a_pooler(
    pgbouncer: Callable[..., str], database: Database, mode: str, size: int, prepare: Prepare
) -> None:
    await database.execute("create table t (n int, s text)")
    insert = "insert into t values (%(n)s::int, %(s)s) returning n"
    uri = pgbouncer(pool_mode=mode, pool_size=size)
    async with (
        opened(uri, max_size=6, prepare=prepare) as one,
        opened(uri, max_size=6, prepare=prepare) as other,
    ):
        processes = (one, other) if size != 6 else (one,)

        async def work(n: int) -> None:
            process = processes[n % len(processes)]
            rows = await process.write((insert, {"n": n, "s": "a"}), ("select %(n)s::int as n", {"n": n}))
            assert rows == [[{"n": n}], [{"n": n}]]
            # Other texts under what would be the same names, if these were counted by each for himself.
            assert await process.write((f"select %(n)s::int + {n % 7} as n", {"n": n})) == [
                [{"n": n + n % 7}]
            ]

        await asyncio.gather(*(work(n) for n in range(300)))
        if mode == "session":
            kept = set(await on_each(one, COUNT))
            assert (0 not in kept) if prepare == "always" else (kept == {0})
        # THEN nothing was set in sessions that are others' later
        assert set(await on_each(one, "show plan_cache_mode")) == {"auto"}
    rows = await database.fetch("select n from t order by n")
    assert [row["n"] for row in rows] == list(range(300))


@pytest.mark.pgbouncer
async def test_always_trusts_a_transaction_pooler_that_keeps_statements(
    pgbouncer: Callable[..., str], database: Database
) -> None:
    settings = "max_prepared_statements = 100" if keeps_statements() else ""
    uri = pgbouncer(pool_size=2, settings=settings)
    async with opened(uri, max_size=8, prepare="always") as pooled:
        async with lanes(pooled):
            pass  # all of them are connected, and take turns
        for n in range(60):
            assert await pooled.write(("select %(n)s + 1 as n", {"n": n})) == [[{"n": n + 1}]]
        async with lanes(pooled) as connections:
            lost = sum(1 for c in connections if not c.prepared.names)  # type: ignore[attr-defined]
        kept = await pooled.fetch(COUNT)
        assert kept[0]["n"] >= 1
        if keeps_statements():
            assert lost == 0
            assert kept[0]["n"] == 1
