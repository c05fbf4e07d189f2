from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import dict_row

from slackwater.errors import ExitCode, SchemaError
from slackwater.postgres import schema
from slackwater.postgres.pool import Database
from slackwater.postgres.schema import SchemaCompatibility, check, migrate, status

OURS = sorted(path.stem for path in schema.FOLDER.glob("*.sql"))
EVERYTHING = ["langgraph_checkpoints_9", "langgraph_store_3", *OURS]


async def run(uri: str, *statements: str) -> list[dict[str, object]]:
    async with await psycopg.AsyncConnection.connect(
        uri, autocommit=True, row_factory=dict_row
    ) as connection:
        for statement in statements:
            cursor = await connection.execute(statement)
        return await cursor.fetchall() if cursor.description else []


async def test_migrate_applies_everything_once(empty_database_uri: str) -> None:
    assert await migrate(empty_database_uri) == EVERYTHING
    assert await migrate(empty_database_uri) == []
    found = await status(empty_database_uri)
    assert found.compatibility is SchemaCompatibility.CURRENT
    assert found.applied == tuple(OURS)
    assert found.server


async def test_eight_processes_that_migrate_at_once_all_succeed_and_one_works(
    empty_database_uri: str,
) -> None:
    program = "import asyncio, sys; from slackwater.postgres.schema import migrate; print(asyncio.run(migrate(sys.argv[1])))"
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, empty_database_uri, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(8)
    ]
    async with asyncio.timeout(120):
        outputs = await asyncio.gather(*(process.communicate() for process in processes))
    assert [process.returncode for process in processes] == [0] * 8, outputs
    assert sorted(output.decode().strip() for output, _ in outputs) == [str(EVERYTHING)] + ["[]"] * 7


async def test_check_passes_on_the_schema_of_this_release(database: Database) -> None:
    await check(database)


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (["drop schema slackwater cascade"], ["no Slackwater schema", "slackwater migrate"]),
        (["insert into slackwater.migrations values ('999_future')"], ["newer", "999_future"]),
        (
            ["update slackwater.migrations set name = '000_past' where name = '001_gateway'"],
            ["newer", "000_past"],
        ),
        (
            ["delete from checkpoint_migrations where v > 3"],
            ["older", "LangGraph's checkpoint tables", "slackwater migrate"],
        ),
        (["drop table store_migrations"], ["older", "LangGraph's store tables"]),
    ],
)
async def test_check_says_what_is_wrong_with_another_schema(
    database: Database, statements: Sequence[str], words: Sequence[str]
) -> None:
    for statement in statements:
        await database.execute(statement)
    with pytest.raises(SchemaError) as caught:
        await check(database)
    assert caught.value.exit_code is ExitCode.SCHEMA
    for word in words:
        assert word in caught.value.message


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("postgresql://u:secret@127.0.0.1:1/nothing", "refused"),
        ("postgresql://u:secret@no-such-host.invalid/nothing", "no-such-host.invalid"),
        ("postgresql://u:secret@127.0.0.1:notaport/nothing", "port"),
    ],
)
async def test_a_database_that_cannot_be_reached_is_one_sentence_without_its_password(
    uri: str, reason: str
) -> None:
    for attempt in (status(uri), migrate(uri)):
        with pytest.raises(SchemaError) as caught:
            await attempt
        assert reason in caught.value.message
        assert "SLACKWATER_DATABASE_URI" in caught.value.message
        assert "secret" not in caught.value.message
        assert "\n" not in caught.value.message


async def test_a_migration_that_fails_leaves_nothing_of_itself(
    empty_database_uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    # GIVEN a second migration whose second statement is wrong
    folder = Path(str(tmp_path))
    (folder / "001_first.sql").write_text("create table slackwater.first (a int)")
    (folder / "002_second.sql").write_text("create table slackwater.second (a int); select 1/0;")
    monkeypatch.setattr(schema, "FOLDER", folder)
    # WHEN it is applied
    with pytest.raises(SchemaError, match="division by zero"):
        await migrate(empty_database_uri)
    # THEN the first one stays, the second one left no table, and the lock is free
    found = await status(empty_database_uri)
    assert (found.compatibility, found.applied, found.missing) == (
        SchemaCompatibility.OLDER,
        ("001_first",),
        ("002_second",),
    )
    assert await run(empty_database_uri, "select to_regclass('slackwater.second') as it") == [{"it": None}]
    (folder / "002_second.sql").write_text("create table slackwater.second (a int)")
    assert (await migrate(empty_database_uri))[0] == "002_second"


async def test_migrate_refuses_a_newer_schema(database_uri: str) -> None:
    await run(database_uri, "insert into slackwater.migrations values ('999_future')")
    with pytest.raises(SchemaError, match="newer"):
        await migrate(database_uri)


async def test_an_index_that_a_killed_migration_left_invalid_is_built_again(database_uri: str) -> None:
    # GIVEN the state after a process was killed inside CREATE INDEX CONCURRENTLY
    await run(
        database_uri,
        "update pg_index set indisvalid = false where indexrelid = 'checkpoints_thread_id_idx'::regclass",
        "delete from checkpoint_migrations where v >= 6",
    )
    # WHEN the migration is run again
    assert await migrate(database_uri) == ["langgraph_checkpoints_9"]
    # THEN the index serves
    rows = await run(
        database_uri,
        "select indisvalid from pg_index where indexrelid = 'checkpoints_thread_id_idx'::regclass",
    )
    assert rows == [{"indisvalid": True}]


@asynccontextmanager
async def in_use(uri: str, table: str) -> AsyncIterator[Callable[[], Awaitable[float]]]:
    """A long transaction has read the table. Gives how long another reader has to wait now (s)."""
    async with (
        await psycopg.AsyncConnection.connect(uri) as long,
        await psycopg.AsyncConnection.connect(uri, autocommit=True) as other,
    ):
        query = f"select 1 from {table} limit 1"
        await long.execute(query.encode())

        async def wait() -> float:
            since = time.monotonic()
            await other.execute(query.encode())
            return time.monotonic() - since

        yield wait


@pytest.mark.parametrize("whose", ["ours", "langgraph's"])
async def test_nobody_waits_behind_a_migration_for_longer_than_it_may_lock(
    database_uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, whose: str
) -> None:
    # GIVEN a migration that needs a table which a long transaction has read
    if whose == "ours":
        table = "slackwater.runs"
        (tmp_path / "999_column.sql").write_text("alter table slackwater.runs add column more int")
        for path in schema.FOLDER.glob("*.sql"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
        monkeypatch.setattr(schema, "FOLDER", tmp_path)
        applied = ["999_column"]
    else:
        table = "checkpoint_blobs"
        await run(database_uri, "delete from checkpoint_migrations where v >= 4")
        applied = ["langgraph_checkpoints_9"]
    async with in_use(database_uri, table) as wait:
        migration = asyncio.create_task(migrate(database_uri, table_lock_seconds=0.2))
        # WHEN others read it meanwhile
        waits = [0.0]
        until = time.monotonic() + 2.5
        async with asyncio.timeout(30):
            while time.monotonic() < until or max(waits) < 0.05:
                waits.append(await wait())
                await asyncio.sleep(0.02)
        # THEN they have waited, and never for long: not until the transaction is over
        assert not migration.done()
        assert max(waits) < schema.TABLE_LOCK_SECONDS - 0.5
    # AND when the transaction is over it is carried out
    assert await asyncio.wait_for(migration, 10) == applied


async def test_a_table_that_is_never_free_is_one_sentence(
    database_uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for path in schema.FOLDER.glob("*.sql"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "999_column.sql").write_text("alter table slackwater.runs add column more int")
    monkeypatch.setattr(schema, "FOLDER", tmp_path)
    monkeypatch.setattr(schema, "TABLE_LOCK_TRIES_SECONDS", 0.5)
    async with in_use(database_uri, "slackwater.runs"):
        with pytest.raises(SchemaError, match="locked for too long"):
            await migrate(database_uri, table_lock_seconds=0.1)


async def test_an_index_is_built_while_its_table_is_written_to(
    database_uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # GIVEN a migration that was killed while it built its first index, and a writer that is not done
    for path in schema.FOLDER.glob("*.sql"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "999_indexes.sql").write_text(
        "-- concurrently\ncreate index concurrently if not exists one on slackwater.runs (owner);\n"
        "create index concurrently if not exists two on slackwater.runs (graph_id);\n"
    )
    monkeypatch.setattr(schema, "FOLDER", tmp_path)
    await run(
        database_uri,
        "create index one on slackwater.runs (owner)",
        "update pg_index set indisvalid = false where indexrelid = 'slackwater.one'::regclass",
    )
    insert = (
        "insert into slackwater.threads (thread_id, owner) values (gen_random_uuid(), 'a')",
        "insert into slackwater.runs (run_id, thread_id, owner, assistant_id, graph_id) "
        "values (gen_random_uuid(), gen_random_uuid(), 'a', gen_random_uuid(), 'g')",
    )
    async with await psycopg.AsyncConnection.connect(database_uri) as writer:
        await writer.execute(insert[1])
        migration = asyncio.create_task(migrate(database_uri, table_lock_seconds=0.2))
        await asyncio.sleep(0.5)
        # WHEN others write, too, THEN none of them waits
        async with asyncio.timeout(10):
            await run(database_uri, *insert)
        assert not migration.done()
        await writer.commit()
    assert await asyncio.wait_for(migration, 10) == ["999_indexes"]
    rows = await run(
        database_uri,
        "select bool_and(indisvalid) as valid, count(*) as number from pg_index "
        "where indexrelid in (to_regclass('slackwater.one'), to_regclass('slackwater.two'))",
    )
    assert rows == [{"valid": True, "number": 2}]


async def test_a_role_gets_bounds_for_what_a_vanished_client_leaves(empty_database_uri: str) -> None:
    await migrate(empty_database_uri)
    rows = await run(
        empty_database_uri,
        "select current_setting('statement_timeout') as a, current_setting('lock_timeout') as b, "
        "current_setting('idle_in_transaction_session_timeout') as c",
    )
    assert rows == [{"a": "2min", "b": "30s", "c": "1min"}]


async def test_a_bound_that_somebody_chose_is_kept(empty_database_uri: str) -> None:
    await run(
        empty_database_uri,
        "do $$ begin execute format('alter role postgres in database %I set statement_timeout = ''7s''', "
        "current_database()); end $$",
    )
    await migrate(empty_database_uri)
    assert await run(empty_database_uri, "show statement_timeout") == [{"statement_timeout": "7s"}]


async def test_a_role_that_may_not_create_a_schema_is_told_so(empty_database_uri: str) -> None:
    await run(
        empty_database_uri,
        "do $$ begin create role nobody_much login; exception when duplicate_object then null; end $$",
    )
    uri = empty_database_uri.replace("postgres@", "nobody_much@")
    with pytest.raises(SchemaError, match="permission denied") as caught:
        await migrate(uri)
    assert "SLACKWATER_MIGRATION_DATABASE_URI" in caught.value.message


async def test_a_role_without_rights_on_the_database_may_migrate_a_schema_that_was_made_for_it(
    empty_database_uri: str,
) -> None:
    await run(
        empty_database_uri,
        "do $$ begin create role app_only login; exception when duplicate_object then null; end $$",
        "create schema slackwater authorization app_only",
        "grant create on schema public to app_only",
    )
    assert await migrate(empty_database_uri.replace("postgres@", "app_only@")) == EVERYTHING


async def test_a_migration_that_changes_one_table_after_the_other_holds_one_lock_at_a_time(
    database_uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # GIVEN a migration of two tables, of which a long transaction has read the second
    (tmp_path / "999_two.sql").write_text(
        "-- one by one\nalter table slackwater.threads add column if not exists more int;\n"
        "alter table slackwater.runs add column if not exists more int;\n"
    )
    for path in schema.FOLDER.glob("*.sql"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(schema, "FOLDER", tmp_path)
    async with in_use(database_uri, "slackwater.runs"):
        migration = asyncio.create_task(migrate(database_uri, table_lock_seconds=0.2))
        # WHEN it waits for the second
        until = time.monotonic() + 10
        locks: list[dict[str, object]] = []
        while not locks and time.monotonic() < until:
            locks = await run(
                database_uri,
                "select array(select relation::regclass::text from pg_locks o where o.pid = l.pid and o.granted "
                "and o.mode = 'AccessExclusiveLock' and relation::regclass::text like 'slackwater.%') as held "
                "from pg_locks l where not granted and mode = 'AccessExclusiveLock'",
            )
            await asyncio.sleep(0.01)
        # THEN it holds nothing that others need
        assert locks == [{"held": []}]
        assert not migration.done()
    # AND it is complete when the transaction is over
    assert await asyncio.wait_for(migration, 10) == ["999_two"]


async def test_large_values_are_not_compressed_the_slow_way(database_uri: str) -> None:
    rows = await run(
        database_uri,
        "select attrelid::regclass::text as whole, attname as part from pg_attribute "
        "where attrelid in (select oid from pg_class where relkind = 'r') and attnum > 0 "
        "and (attcompression = 'l' or attstorage = 'e')",
    )
    assert sorted((row["whole"], row["part"]) for row in rows) == [
        ("checkpoint_blobs", "blob"),
        ("checkpoint_writes", "blob"),
        ("checkpoints", "checkpoint"),
        ("slackwater.base_writes", "writes"),
        ("slackwater.run_events", "data"),
        ("slackwater.runs", "kwargs"),
        ("slackwater.threads", "values"),
        ("store", "value"),
    ]
    (stored,) = await run(
        database_uri,
        "insert into slackwater.run_events (run_id, fence, seq, thread_id, event, data) "
        "values (gen_random_uuid(), 1, 1, gen_random_uuid(), 'values', repeat('state ', 20000)) "
        "returning 1",
        "select pg_column_compression(data) as how from slackwater.run_events",
    )
    assert stored["how"] in (None, "lz4")


WITHOUT_LZ4 = """
create function refuse_lz4() returns event_trigger language plpgsql as $$ begin
  if exists (select 1 from pg_attribute where attcompression = 'l') then
    raise feature_not_supported using message = 'compression method lz4 not supported';
  end if;
end $$;
create event trigger without_lz4 on ddl_command_end when tag in ('ALTER TABLE') execute function refuse_lz4();
"""


async def test_a_server_without_lz4_stores_large_values_as_they_are(empty_database_uri: str) -> None:
    await run(empty_database_uri, WITHOUT_LZ4)
    assert await migrate(empty_database_uri) == EVERYTHING
    (found,) = await run(
        empty_database_uri,
        "select count(*) filter (where attstorage = 'e') as external, count(*) filter (where attcompression = 'l') as lz4 "
        "from pg_attribute where attrelid in (select oid from pg_class where relkind = 'r') and attnum > 0",
    )
    assert found == {"external": 8, "lz4": 0}


async def test_values_of_an_older_release_stay_readable(empty_database_uri: str, tmp_path: Path) -> None:
    # GIVEN a database of the release before, with a large value
    for path in schema.FOLDER.glob("*.sql"):
        if path.stem < "017":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "FOLDER", tmp_path)
        await migrate(empty_database_uri)
    insert = (
        "insert into slackwater.run_events (run_id, fence, seq, thread_id, event, data) "
        "values (gen_random_uuid(), {fence}, 1, gen_random_uuid(), 'values', repeat('state ', 20000))"
    )
    await run(empty_database_uri, insert.format(fence=1))
    # WHEN it is migrated
    assert "017_large_values" in await migrate(empty_database_uri)
    await run(empty_database_uri, insert.format(fence=2))
    # THEN the old value is as it was, and only the new one is stored the new way
    rows = await run(
        empty_database_uri,
        "select data = repeat('state ', 20000) as whole, pg_column_compression(data) = 'pglz' as slow "
        "from slackwater.run_events order by fence",
    )
    assert [(row["whole"], bool(row["slow"])) for row in rows] == [(True, True), (True, False)]
