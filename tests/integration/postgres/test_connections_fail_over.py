"""The pool finds the server that takes writes, and leaves one that does not, whatever it was opened to."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.store.postgres.aio import AsyncPostgresStore
from support.impatience import impatient

from slackwater.errors import SchemaError
from slackwater.postgres import schema
from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE, ConnectionFault
from slackwater.postgres.conninfo import Conninfo, connect, connect_blocking, for_writing
from slackwater.postgres.pool import BoundedConnection, Database
from tests.support.proxy import proxied
from tests.support.replication import Replication, Server, replicated

SESSIONS = "select pid from pg_stat_activity where application_name = 'slackwater test'"


@pytest.fixture(scope="module")
def shared() -> Iterator[Replication]:
    with replicated() as pair:
        pair.primary.execute("create table t (n int)")
        yield pair


@pytest.fixture
def pair(shared: Replication) -> Iterator[Replication]:
    """Two servers; whatever a test has done to them is undone."""
    shared.primary.execute("truncate t")
    shared.until_caught_up()
    yield shared
    for server in shared.servers:
        server.start()
    shared.primary.set_read_only(False)
    if not shared.standby.is_standby:
        shared.demote()


@asynccontextmanager
async def opened(conninfo: Conninfo, *, max_size: int = 4) -> AsyncIterator[Database]:
    database = Database(conninfo, max_size=max_size, statement_seconds=15.0, name="test")
    await database.open()
    try:
        yield database
    finally:
        await database.close(5.0)


async def fill(database: Database) -> None:
    """Make the pool and the lanes hold all of their connections, idle."""
    sleep = "select pg_sleep(0.1)"
    await asyncio.gather(
        *(database.fetch(sleep) for _ in range(database.pool.max_size)),
        *(database.write((sleep, {})) for _ in range(database.lanes.max_size)),
    )


async def write(database: Database, n: int) -> int:
    return await database.execute("insert into t values (%s)", (n,))


def numbers(server: Server) -> list[int]:
    return [row["n"] for row in server.execute("select n from t order by n")]


async def until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)


async def test_of_several_hosts_the_one_that_takes_writes_is_used(pair: Replication) -> None:
    for first, second in (pair.servers, pair.servers[::-1]):
        uri = f"postgresql://postgres@127.0.0.1:{first.port},127.0.0.1:{second.port}/postgres"

        async def ask(uri: str = uri) -> str:
            return uri

        conninfos: list[Conninfo] = [uri, ask]
        for conninfo in conninfos:
            async with opened(conninfo) as database:
                await fill(database)
                assert await write(database, 1) == 1
            # and so it is for what has a connection of its own: migrations, renewals, and who listens
            async with await connect(psycopg.AsyncConnection, conninfo, autocommit=True) as own:
                await own.execute("insert into t values (2)")
        with connect_blocking(psycopg.Connection, for_writing(uri), autocommit=True) as in_a_thread:
            in_a_thread.execute("insert into t values (3)")


async def test_a_promotion_moves_the_pool_to_the_other_server(pair: Replication) -> None:
    async with opened(pair.uri()) as database:
        await fill(database)
        await write(database, 1)
        pair.until_caught_up()
        # WHEN the primary crashes, and the standby is promoted a moment later
        pair.primary.stop(signal.SIGQUIT)
        writing = asyncio.create_task(write(database, 2))
        await asyncio.sleep(0.3)
        await asyncio.to_thread(pair.promote)
        # THEN who was waiting for a connection gets one to the new primary
        assert await writing == 1
        await asyncio.gather(*(write(database, 3) for _ in range(8)))
        assert database.fault is None
    assert numbers(pair.primary) == [1, 2] + [3] * 8


async def test_a_server_that_takes_no_writes_any_more_is_left_by_every_connection_at_once(
    pair: Replication,
) -> None:
    old = pair.primary
    async with opened(pair.uri()) as database:
        await fill(database)
        pair.until_caught_up()
        before = old.execute(SESSIONS)
        assert len(before) == 4
        # WHEN the server lets everybody stay and refuses writes, and there is another one
        old.set_read_only(True)
        pair.promote()
        # THEN the first write is carried out there, and nobody is left here
        assert await write(database, 1) == 1
        await until(lambda: not old.execute(SESSIONS), "the sessions on the demoted server")
        await asyncio.gather(*(write(database, 2) for _ in range(8)))
    assert numbers(pair.primary) == [1] + [2] * 8
    assert numbers(old) == []


@pytest.mark.parametrize("many", [1, 12])
async def test_writes_wait_while_the_server_takes_none_and_are_carried_out_once(
    pair: Replication, many: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(pair.primary.uri()) as database:
        await fill(database)
        pair.primary.set_read_only(True)
        writing = [asyncio.create_task(write(database, n)) for n in range(many)]
        await until(lambda: database.fault is ConnectionFault.READ_ONLY, "what the pool has learned")
        await asyncio.sleep(1.0)
        assert not any(task.done() for task in writing)
        pair.primary.set_read_only(False)
        assert await asyncio.gather(*writing) == [1] * many
        assert database.fault is None
    assert numbers(pair.primary) == list(range(many))
    # THEN the pool was made anew once, and not once for each of them
    assert len([r for r in caplog.records if getattr(r, "event", "") == "database.read_only"]) == 1


async def test_what_was_made_since_is_not_made_anew_for_those_who_meet_it_late(pair: Replication) -> None:
    async with opened(pair.primary.uri()) as database:
        taken = [await database.pool.getconn() for _ in range(database.pool.max_size)]
        seen = set()
        for connection in taken:
            # WHEN one after the other finds out what the first one has found out
            await connection.execute("set default_transaction_read_only = on")
            with pytest.raises(psycopg.OperationalError, match="read-only"):
                await connection.execute("insert into t values (1)")
            await database.pool.putconn(connection)
            rows = await database.fetch("select pg_backend_pid() as pid")
            seen.add(rows[0]["pid"])
            await asyncio.sleep(0.1)
        # THEN the first that was made instead is still there
        assert len(await pids(database)) <= database.pool.max_size
        assert seen <= await pids(database)


async def pids(database: Database) -> set[int]:
    """Of the sessions that the pool has now."""
    rows = await asyncio.gather(
        *(database.fetch("select pg_backend_pid() as pid, pg_sleep(0.2)") for _ in range(4))
    )
    return {row[0]["pid"] for row in rows}


async def test_an_address_that_still_leads_to_the_old_server_costs_time_and_nothing_else(
    pair: Replication,
) -> None:
    # GIVEN an address that has not heard of the failover yet
    with proxied(pair.standby.uri()) as address:
        async with opened(address.uri) as database:
            writing = asyncio.create_task(write(database, 1))
            await until(lambda: database.fault is ConnectionFault.READ_ONLY, "what the pool has learned")
            assert not writing.done()
            # WHEN it has THEN the write is carried out
            address.target = pair.primary.uri()
            assert await writing == 1


async def test_langgraphs_own_statements_meet_trouble_of_the_database_and_nothing_else(
    pair: Replication,
) -> None:
    async with opened(pair.primary.uri(), max_size=2) as database:
        saver, store = AsyncPostgresSaver(database.pool), AsyncPostgresStore(database.pool)  # type: ignore[arg-type]
        try:
            await saver.setup()
            await store.setup()
            for statement in (
                lambda: saver.adelete_thread("a thread"),  # a pipeline
                lambda: store.aput(("a",), "key", {"n": 1}),  # a transaction, of a task of its own
            ):
                await fill(database)
                pair.primary.set_read_only(True)
                with pytest.raises(psycopg.OperationalError, match="read-only"):
                    await statement()
                assert database.fault is ConnectionFault.READ_ONLY
                pair.primary.set_read_only(False)
        finally:
            task = store._task
            assert task is not None
            task.cancel()
            await asyncio.wait({task})


async def test_a_silent_server_costs_one_statement_and_not_one_for_each_connection(
    pair: Replication,
) -> None:
    with proxied(pair.primary.uri()) as address:
        async with opened(address.uri) as database:
            await fill(database)
            address.forget()
            with impatient(database, 0.5), pytest.raises(DATABASE_UNAVAILABLE):
                await write(database, 1)
            # THEN none of the others, from which nothing will ever come, is handed out
            assert await asyncio.gather(*(write(database, 2) for _ in range(8))) == [1] * 8


async def test_a_migration_is_refused_by_a_server_that_takes_no_writes_and_finds_the_other(
    pair: Replication,
) -> None:
    with pytest.raises(SchemaError, match="read-only"):
        await schema.migrate(pair.standby.uri())
    uri = f"postgresql://postgres@127.0.0.1:{pair.standby.port},127.0.0.1:{pair.primary.port}/postgres"
    assert (await schema.status(uri)).compatibility is schema.SchemaCompatibility.ABSENT


@pytest.mark.pgbouncer
async def test_a_pooler_that_knows_nothing_of_the_promotion_keeps_nobody_out(
    pair: Replication, pgbouncer: Callable[..., str]
) -> None:
    # GIVEN a PgBouncer that was first asked when its server was a standby: it says so to everybody, for ever
    pooled = pgbouncer(uri=pair.standby.uri())
    with pytest.raises(psycopg.OperationalError, match="read-only"):
        await connect(BoundedConnection, pooled, autocommit=True)
    with pytest.raises(psycopg.OperationalError, match="read-only"):
        connect_blocking(psycopg.Connection, for_writing(pooled))
    pair.promote()
    with connect_blocking(psycopg.Connection, for_writing(pooled), autocommit=True) as in_a_thread:
        in_a_thread.execute("select 1")
    with pytest.raises(psycopg.OperationalError, match="read-only"):
        await psycopg.AsyncConnection.connect(f"{pooled}?target_session_attrs=read-write")
    async with opened(pooled) as database:
        await fill(database)
        assert await write(database, 1) == 1
        # WHEN the server behind it takes no writes for a while THEN they wait, as without it
        pair.primary.set_read_only(True)
        writing = asyncio.create_task(write(database, 2))
        await until(lambda: database.fault is ConnectionFault.READ_ONLY, "what the pool has learned")
        pair.primary.set_read_only(False)
        assert await writing == 1
    assert numbers(pair.primary) == [1, 2]


@pytest.mark.pgbouncer
async def test_a_pooler_that_knows_nothing_of_a_server_that_takes_no_writes_is_not_believed(
    pair: Replication, pgbouncer: Callable[..., str]
) -> None:
    # GIVEN a PgBouncer that says of its server what was true when it was first asked: that it takes writes
    async with opened(pgbouncer(uri=pair.primary.uri())) as database:
        await fill(database)
        pair.primary.set_read_only(True)
        writing = asyncio.create_task(write(database, 1))
        await until(lambda: database.fault is ConnectionFault.READ_ONLY, "what the pool has learned")
        # THEN nobody gets a connection with which he could not write
        await asyncio.sleep(1.5)
        assert not writing.done()
        assert database.fault is ConnectionFault.READ_ONLY
        pair.primary.set_read_only(False)
        assert await writing == 1
