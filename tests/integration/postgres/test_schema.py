from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence

import psycopg
import pytest
from psycopg.rows import dict_row

from app.errors import ExitCode, SchemaError
from app.postgres import schema
from app.postgres.pool import Database
from app.postgres.schema import Verdict, check, migrate, status

OURS = [
    "001_gateway",
    "002_pages",
    "003_crons",
    "004_webhooks",
    "005_assistant_versions",
    "006_thread_ttl",
    "007_run_timeout",
    "008_stalls",
    "009_epochs",
]
EVERYTHING = [*OURS, "langgraph_checkpoints_9", "langgraph_store_3"]


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
    assert found.verdict is Verdict.CURRENT
    assert found.applied == tuple(OURS)
    assert found.server


async def test_eight_processes_that_migrate_at_once_all_succeed_and_one_works(
    empty_database_uri: str,
) -> None:
    program = "import asyncio, sys; from app.postgres.schema import migrate; print(asyncio.run(migrate(sys.argv[1])))"
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, empty_database_uri, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(8)
    ]
    async with asyncio.timeout(60):
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
    from pathlib import Path

    folder = Path(str(tmp_path))
    (folder / "001_first.sql").write_text("create table slackwater.first (a int)")
    (folder / "002_second.sql").write_text("create table slackwater.second (a int); select 1/0;")
    monkeypatch.setattr(schema, "FOLDER", folder)
    # WHEN it is applied
    with pytest.raises(SchemaError, match="division by zero"):
        await migrate(empty_database_uri)
    # THEN the first one stays, the second one left no table, and the lock is free
    found = await status(empty_database_uri)
    assert (found.verdict, found.applied, found.missing) == (Verdict.OLDER, ("001_first",), ("002_second",))
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
