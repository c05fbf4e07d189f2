"""Whoever erases an owner erases all that is theirs and nothing else, whatever runs, and whichever tables there are."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from any_row import insert_any
from helm import Helm
from rig import OWNER, Fleet, Process

from slackwater.errors import SettingsError
from slackwater.kit.labels import label_of
from slackwater.owners import erase as module
from slackwater.owners import queries
from slackwater.owners.erase import NotErased, erase
from slackwater.owners.export import export, value_of
from slackwater.postgres.pool import Database
from slackwater.runtime.queue.erasure import TABLES

OTHER = "bob"

# Whatever says in a column of its name whose a row is, and the tables whose rows go with it.
_OWNED = """
select n.nspname || '.' || c.relname as name, array_agg(a.attname::text) as columns, exists (
  select 1 from pg_constraint k where k.conrelid = c.oid and k.contype = 'f' and k.confdeltype = 'c'
    and k.confrelid::regclass::text = any(%s)) as cascades
from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid
where n.nspname in ('slackwater', 'public') and c.relkind in ('r', 'p') and not a.attisdropped
  and a.attname ~ '(^|_)(owner|principal|user|account|tenant|subject)(_|$)'
group by c.oid, n.nspname, c.relname order by 1"""

OWNERS_TABLES = {*queries.WAYS_IN, *queries.AFTER_THREADS, *queries.THREADS}


ONE_EACH = (
    "slackwater.limits",
    "slackwater.open_streams",
    "slackwater.request_buckets",
    "slackwater.users",
    "slackwater.user_profiles",
)
"""In which an owner has no more than one row."""


async def owned(database: Database) -> list[dict[str, Any]]:
    return await database.fetch(_OWNED, [list(OWNERS_TABLES)])


async def missing(database: Database) -> set[str]:
    """The tables that name an owner, and that nobody has listed."""
    return {row["name"] for row in await owned(database) if not row["cascades"]} - OWNERS_TABLES


async def test_every_table_that_names_an_owner_is_listed_or_cascades(database: Database) -> None:
    assert await missing(database) == set()
    for column in ("owner", "user_id", "the_principal"):
        await database.execute(f"create table slackwater.notes_{column} (id uuid, {column} text)")  # type: ignore[arg-type]
    assert {name.partition(".")[2] for name in await missing(database)} == {
        "notes_owner",
        "notes_user_id",
        "notes_the_principal",
    }


async def test_every_table_that_is_erased_is_exported(database: Database) -> None:
    own = {row["name"] for row in await owned(database)} | {table.name for table in TABLES} | {"store"}
    assert own == queries.EXPORTS.keys() | set(queries.NOT_EXPORTED) - {"store_vectors"}


async def fill(process: Process, owner: str) -> UUID:
    """A row in each table there is for an owner, a thread or a run; the thread."""
    database, assistant = process.database, uuid4()
    row = (await process.admit("line", owner=owner, idempotency_key=str(assistant))).row
    given = {
        "owner": owner,
        "assistant_id": assistant,
        "thread_id": row["thread_id"],
        "run_id": row["run_id"],
        "prefix": f"{label_of(owner)}.notes",
        "data": json.dumps({"of": owner}),
    }
    await insert_any(database, "slackwater.assistants", **given)
    full = (table.name if "." in table.name else f"public.{table.name}" for table in TABLES)
    filled = {"slackwater.assistants", *queries.THREADS, "slackwater.idempotency_keys"}
    for name in ONE_EACH:
        if await database.fetch(f"select 1 from {name} where owner = %s", [owner]):  # type: ignore[arg-type]
            filled.add(name)
    for name in {*OWNERS_TABLES, *full, "public.store", "slackwater.assistant_versions"} - filled:
        await insert_any(database, name, **given)
    await insert_any(database, "public.store", **{**given, "prefix": label_of(owner)})
    skill = await database.fetch_one("select owner, name from slackwater.skills where owner = %s", [owner])
    assert skill is not None
    await insert_any(database, "slackwater.skill_files", **skill)
    return UUID(str(row["thread_id"]))


async def rows_of(database: Database, owner: str, thread_id: UUID) -> dict[str, int]:
    """How many rows each table has of an owner, or of their thread and its run."""
    found = {}
    for table in await database.fetch(
        "select table_schema || '.' || table_name as name from information_schema.tables "
        "where table_schema in ('slackwater', 'public')"
    ):
        rows = await database.fetch(f"select to_jsonb(x) as row from {table['name']} x")  # type: ignore[arg-type]
        mine = [
            row
            for row in rows
            if owner
            in (row["row"].get("owner"), str(row["row"].get("prefix")).partition(".")[0].removeprefix("@"))
            or str(thread_id) == row["row"].get("thread_id")
        ]
        if mine:
            found[table["name"]] = len(mine)
    return found


@pytest.fixture
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("KEYS_SECONDS", 0.1), ("END_SECONDS", 3.0), ("AGAIN_SECONDS", 3.0)):
        monkeypatch.setattr(module, name, seconds)


pytestmark = pytest.mark.usefixtures("_soon")


async def test_nothing_is_left_of_an_owner_and_all_of_another(fleet: Fleet) -> None:
    process = await fleet.start(max_concurrent_runs=0)
    mine, theirs = await fill(process, OWNER), await fill(process, OTHER)
    # Whose name begins like theirs, or is a pattern for it
    await insert_any(fleet.database, "public.store", prefix=label_of(OWNER + "s") + ".notes")
    await insert_any(fleet.database, "public.store", prefix=label_of("al%") + ".notes")
    before = await rows_of(fleet.database, OTHER, theirs)
    assert before.keys() == (await rows_of(fleet.database, OWNER, mine)).keys()
    assert before.keys() >= OWNERS_TABLES

    gone = await erase(fleet.database, OWNER)

    assert await rows_of(fleet.database, OWNER, mine) == {}
    assert await rows_of(fleet.database, OTHER, theirs) == before
    assert len(await fleet.database.fetch("select 1 from store")) == 4
    assert gone == {
        name: 2 if name == "store" else 1
        for name in (
            *("threads", "api_keys", "users", "crons", "webhooks", "assistants", "idempotency_keys", "store"),
            *("limits", "open_streams", "request_buckets", "audit", "memory_updates"),
            *("skills", "skill_history", "skill_switches", "agents", "user_profiles", "channel_deliveries"),
        )
        if name != "idempotency_keys"  # went with its run
    } | dict.fromkeys(
        ("idempotency_keys", "files", "token_usage", "feedback", "channel_threads"), 0
    )  # they went with their thread
    assert not (await erase(fleet.database, OWNER)).total()
    # but for the fact itself, which is nobody's
    told = await fleet.database.fetch("select action, via, subject from slackwater.audit where owner is null")
    assert told == [{"action": "owner.erased", "via": "command", "subject": OWNER}] * 2


async def test_a_run_that_is_being_worked_on_is_ended_and_what_waits_does_not_begin(
    fleet: Fleet, helm: Helm
) -> None:
    process = await fleet.start(lease_seconds=3.0, poll_seconds=0.05)
    hold = helm.hold("b")
    run = (await process.admit("line")).row
    await asyncio.wait_for(hold.reached.wait(), 10)
    await process.admit("line", thread_id=run["thread_id"])
    await process.admit("line", after_seconds=60)

    await erase(fleet.database, OWNER)

    assert await rows_of(fleet.database, OWNER, run["thread_id"]) == {}
    hold.let_go()
    await fleet.idle(process)
    assert await rows_of(fleet.database, OWNER, run["thread_id"]) == {}


async def test_a_process_that_does_not_answer_writes_nothing_more(
    fleet: Fleet, helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "END_SECONDS", 0.3)
    process = await fleet.start(linked=True)
    hold = helm.hold("b")
    run = (await process.admit("line")).row
    await asyncio.wait_for(hold.reached.wait(), 10)
    assert process.link is not None
    process.link.hang()

    await erase(fleet.database, OWNER)
    assert await rows_of(fleet.database, OWNER, run["thread_id"]) == {}

    process.link.flow()
    hold.let_go()
    await fleet.idle(process)
    assert await rows_of(fleet.database, OWNER, run["thread_id"]) == {}


async def test_two_that_erase_at_the_same_time_share_the_work(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "THREADS", 2)
    process = await fleet.start(max_concurrent_runs=0)
    threads = [await fill(process, OWNER) for _ in range(9)]

    one, two = await asyncio.gather(erase(fleet.database, OWNER), erase(process.database, OWNER))

    assert one["threads"] + two["threads"] == len(threads)
    for thread_id in threads:
        assert await rows_of(fleet.database, OWNER, thread_id) == {}


async def test_a_thread_that_somebody_has_locked_is_waited_for_and_named_when_that_takes_too_long(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = await fleet.start(max_concurrent_runs=0)
    locked, free = [(await process.admit("line")).row["thread_id"] for _ in range(2)]
    async with process.database.connection() as connection:
        async with connection.transaction():
            await connection.execute(
                "select 1 from slackwater.threads where thread_id = %s for update", [locked]
            )
            erasing = asyncio.create_task(erase(fleet.database, OWNER), name="erasing")

            async def gone() -> bool:
                return not await rows_of(fleet.database, "", free)

            await fleet.until(gone)
            assert not erasing.done()
        assert (await erasing)["threads"] == 2

        row = (await process.admit("line")).row
        monkeypatch.setattr(module, "AGAIN_SECONDS", 0.3)
        async with connection.transaction():
            await connection.execute(
                "select 1 from slackwater.threads where thread_id = %s for update", [row["thread_id"]]
            )
            with pytest.raises(NotErased, match=r"slackwater\.threads"):
                await erase(fleet.database, OWNER)
    assert (await erase(fleet.database, OWNER))["threads"] == 1


async def test_what_is_written_while_a_deleted_key_is_still_let_in_goes_too(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEYS_SECONDS", 1.0)
    process = await fleet.start(max_concurrent_runs=0)
    await insert_any(fleet.database, "slackwater.api_keys", owner=OWNER)
    erasing = asyncio.create_task(erase(fleet.database, OWNER), name="erasing")

    async def gone() -> bool:
        return not await fleet.database.fetch("select 1 from slackwater.api_keys")

    await fleet.until(gone)
    late = (await process.admit("line")).row
    await erasing
    assert await rows_of(fleet.database, OWNER, late["thread_id"]) == {}


async def test_what_is_large_goes_in_pieces(fleet: Fleet) -> None:
    process = await fleet.start(max_concurrent_runs=0)
    run = (await process.admit("line")).row
    await fleet.database.execute(
        """insert into slackwater.run_events (run_id, fence, seq, thread_id, event, data)
           select %s, 1, n, %s, 'values', '{}' from generate_series(1, 12000) n""",
        [run["run_id"], run["thread_id"]],
    )
    most = 0
    wipe = queries.wipe

    async def watched(database: Database, table: int, threads: Any, limit: int) -> int:
        nonlocal most
        gone = await wipe(database, table, threads, limit)
        most = max(most, gone)
        return gone

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queries, "wipe", watched)
        await erase(fleet.database, OWNER)
    assert await rows_of(fleet.database, OWNER, run["thread_id"]) == {}
    assert 0 < most <= 8000


async def test_the_owner_of_what_belongs_to_everybody_is_not_erased(database: Database) -> None:
    with pytest.raises(SettingsError, match="belongs to everybody"):
        await erase(database, "system")


# Export


async def exported(database: Database, owner: str) -> tuple[dict[str, list[Any]], dict[str, int]]:
    lines = [json.loads(line) async for line in export(database, owner)]
    end = lines.pop()
    assert end["table"] is None
    tables: dict[str, list[Any]] = {}
    for line in lines:
        tables.setdefault(line["table"], []).append(line["row"])
    assert {name: len(rows) for name, rows in tables.items()} == {k: v for k, v in end["rows"].items() if v}
    return tables, end["rows"]


async def test_an_export_has_every_row_of_the_owner_and_none_of_another(fleet: Fleet) -> None:
    process = await fleet.start(max_concurrent_runs=0)
    mine = await fill(process, OWNER)
    await fill(process, OTHER)

    tables, rows = await exported(fleet.database, OWNER)

    there = await rows_of(fleet.database, OWNER, mine)
    found = {
        name.partition(".")[2]: count for name, count in there.items() if name not in queries.NOT_EXPORTED
    }
    # No column of theirs says whose they are.
    assert rows == {**found, "external_identities": 0, "sessions": 0}
    assert OTHER not in json.dumps(tables)
    assert [row["namespace"] for row in tables["store"]] in ([[""], ["notes"]], [["notes"], [""]])
    assert "sha256" not in tables["api_keys"][0]


async def test_an_export_has_events_one_by_one_and_the_values_of_checkpoints(fleet: Fleet) -> None:
    process = await fleet.start()
    run = (await process.admit("talks", stream_mode=["messages", "values"])).row
    await fleet.ended(run["run_id"])
    await fleet.idle(process)

    tables, _ = await exported(fleet.database, OWNER)

    events = [(row["fence"], row["seq"], row["event"], row["data"]) for row in tables["run_events"]]
    assert sorted(events, key=lambda event: event[:2]) == [
        (event["fence"], event["seq"], event["event"], json.loads(event["data"]))
        for event in await fleet.events(run["run_id"])
    ]
    assert len(tables["checkpoints"]) == len(await fleet.checkpoints(run["thread_id"]))
    values = [row["blob"] for row in tables["checkpoint_blobs"]]
    assert any("langchain_core.messages" in json.dumps(value) for value in values), values


def test_a_value_that_cannot_be_read_is_kept_as_it_is_and_nothing_it_names_is_called() -> None:
    import ormsgpack

    def named(code: int, *parts: Any) -> bytes:
        return ormsgpack.packb(ormsgpack.Ext(code, ormsgpack.packb(parts)))

    assert value_of("msgpack", named(0, "os", "system", "exit 1")) == {"type": "os.system", "value": "exit 1"}
    assert value_of("msgpack", named(7, 1, 2)) == [1, 2]
    assert value_of("msgpack+aes", b"\x00\xff") == b"\x00\xff"
    assert value_of("msgpack", b"\xc1") == b"\xc1"
    assert value_of("null", b"") is None
