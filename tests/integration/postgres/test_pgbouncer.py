"""Everything of the core path works through a transaction pooler, whose sessions are another's with each transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from uuid import uuid4

import psycopg
import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.store.postgres.aio import AsyncPostgresStore

from slackwater.errors import SchemaError
from slackwater.postgres.pool import Database, StatementTimeout
from slackwater.postgres.schema import check, is_pooled, migrate

pytestmark = pytest.mark.pgbouncer

Start = Callable[..., str]


@pytest.fixture
async def pooled(pgbouncer: Start) -> AsyncIterator[Database]:
    """Eight connections of ours over three of the server's."""
    database = Database(pgbouncer(), max_size=8, statement_seconds=20.0, name="pooled")
    await database.open()
    yield database
    await database.close(5.0)


async def test_statements_and_pipelines_share_sessions(pooled: Database) -> None:
    await pooled.execute("create table t (n int primary key)")

    async def work(n: int) -> None:
        assert await pooled.fetch_one("select %s::int as n", (n,)) == {"n": n}
        rows = await pooled.pipeline(
            ("insert into t values (%s) returning n", (n,)), ("select n from t where n = %s", (n,))
        )
        assert rows == [[{"n": n}], [{"n": n}]]
        async with pooled.connection() as connection, connection.transaction():
            await connection.execute("update t set n = -%s where n = %s", (n, n))

    await asyncio.gather(*(work(n) for n in range(1, 101)))
    assert await pooled.fetch_one("select count(*) as n, max(n) as high from t") == {"n": 100, "high": -1}
    # GIVEN an error inside a pipeline THEN nothing is written and the session is clean for the next one
    for _ in range(10):
        with pytest.raises(psycopg.errors.UniqueViolation):
            await pooled.pipeline(("insert into t values (7)", None), ("insert into t values (-1)", None))
    assert await pooled.fetch("select 1 from t where n = 7") == []


async def test_a_late_or_cancelled_statement_ends_in_the_server(pooled: Database) -> None:
    for _ in range(4):
        task = asyncio.create_task(pooled.execute("select pg_sleep(60)"))
        await asyncio.sleep(0.1)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    # THEN all three sessions of the pooler are free again
    async with asyncio.timeout(20):
        await asyncio.gather(*(pooled.fetch("select pg_sleep(0.1)") for _ in range(3)))
    async with pooled.connection() as connection:
        connection.statement_seconds = 0.3  # type: ignore[attr-defined]
        with pytest.raises(StatementTimeout):
            await connection.execute("select pg_sleep(60)")
    assert await pooled.fetch_one("select 1 as a") == {"a": 1}


async def test_langgraphs_saver_and_store_share_sessions(pooled: Database) -> None:
    def step(state: MessagesState) -> MessagesState:
        return {"messages": [("ai", f"{len(state['messages'])}")]}

    builder = StateGraph(MessagesState).add_node("one", step).add_node("two", step)
    builder.add_edge(START, "one").add_edge("one", "two").add_edge("two", END)
    graph = builder.compile(checkpointer=AsyncPostgresSaver(pooled.pool))

    async def run() -> None:
        config: RunnableConfig = {"configurable": {"thread_id": str(uuid4())}}
        await graph.ainvoke({"messages": [("human", "hello")]}, config)
        state = await graph.aget_state(config)
        assert [message.content for message in state.values["messages"]] == ["hello", "1", "2"]

    await asyncio.gather(*(run() for _ in range(20)))
    store = AsyncPostgresStore(pooled.pool)
    await asyncio.gather(*(store.aput(("notes",), str(n), {"n": n}) for n in range(20)))
    found = await store.asearch(("notes",), limit=50)
    assert sorted(item.value["n"] for item in found) == list(range(20))
    store._task.cancel()
    await asyncio.wait({store._task})


async def test_the_check_of_the_schema_works_through_it(pooled: Database) -> None:
    await check(pooled)


@pytest.mark.parametrize("pool_size", [1, 3])
async def test_migrate_refuses_a_transaction_pooler(pgbouncer: Start, pool_size: int) -> None:
    uri = pgbouncer(pool_size=pool_size)
    for _ in range(3):
        with pytest.raises(SchemaError, match="SLACKWATER_MIGRATION_DATABASE_URI"):
            await migrate(uri)
    assert await is_pooled(uri)


@pytest.mark.parametrize("clients", [1, 2, 4, 8])
async def test_migrate_refuses_a_transaction_pooler_in_use(pooled: Database, clients: int) -> None:
    # GIVEN other clients that keep the pooler's sessions moving
    async def use() -> None:
        while True:
            await pooled.fetch("select pg_sleep(0.002)")

    users = [asyncio.create_task(use()) for _ in range(clients)]
    try:
        for _ in range(10):
            with pytest.raises(SchemaError, match="SLACKWATER_MIGRATION_DATABASE_URI"):
                await migrate(pooled.conninfo)
    finally:
        for user in users:
            user.cancel()
        await asyncio.wait(users)


async def test_migrate_refuses_a_pooler_that_has_no_session_left(pgbouncer: Start) -> None:
    with pytest.raises(SchemaError, match="SLACKWATER_MIGRATION_DATABASE_URI"):
        await migrate(pgbouncer(pool_mode="session", pool_size=1))


async def test_migrate_accepts_a_session_pooler(pgbouncer: Start) -> None:
    uri = pgbouncer(pool_mode="session", pool_size=2)
    assert await migrate(uri) == []
    assert not await is_pooled(uri)


async def test_a_server_of_ones_own_is_no_pooler(database_uri: str) -> None:
    assert not await is_pooled(database_uri)
