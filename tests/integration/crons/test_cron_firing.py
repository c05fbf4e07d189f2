"""What is due is started: once, whoever looks for it, whatever dies meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from psycopg import OperationalError
from support.api import Api
from support.impatience import impatient

from slackwater.api.assistants.service import system_id
from slackwater.api.crons import fire
from slackwater.api.crons.fire import fire_due
from slackwater.api.crons.queries import ABANDONED_SECONDS
from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE
from slackwater.postgres.pool import Database
from slackwater_lambda.tasks import Sweep, begin
from tests.integration.runtime.rig import Link

HOURLY = {"assistant_id": "echo", "schedule": "0 * * * *", "input": {"text": "c"}, "on_run_completed": "keep"}


async def make(http: httpx.AsyncClient, path: str = "/runs/crons", **body: Any) -> str:
    answer = await http.post(path, json={**HOURLY, **body})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["cron_id"])


async def pass_time(database: Database, seconds: float = 10, cron_id: str | None = None) -> datetime:
    """As if what is next had been due so many seconds ago."""
    row = await database.fetch_one(
        "update slackwater.crons set next_run_date = now() - make_interval(secs => %s) "
        "where %s::uuid is null or cron_id = %s returning next_run_date",
        [seconds, cron_id, cron_id],
    )
    assert row is not None
    due: datetime = row["next_run_date"]
    return due


async def cron(database: Database, cron_id: str) -> dict[str, Any]:
    row = await database.fetch_one("select * from slackwater.crons where cron_id = %s", [cron_id])
    assert row is not None
    return row


async def runs_of(database: Database, cron_id: str) -> list[dict[str, Any]]:
    return await database.fetch(
        "select r.*, t.hidden from slackwater.runs r join slackwater.threads t using (thread_id) "
        "where r.kwargs #>> '{config,configurable,cron_id}' = %s order by r.seq",
        [cron_id],
    )


async def ended(database: Database, cron_id: str) -> list[dict[str, Any]]:
    async with asyncio.timeout(15):
        while True:
            rows = await runs_of(database, cron_id)
            if all(row["status"] not in ("pending", "running") for row in rows):
                return rows
            await asyncio.sleep(0.02)


@pytest.fixture
def told() -> Iterator[list[logging.LogRecord]]:
    """What is logged about crons."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    fire.log.addHandler(handler)
    yield records
    fire.log.removeHandler(handler)


def events(told: list[logging.LogRecord]) -> list[str]:
    return [record.event for record in told]  # type: ignore[attr-defined]


@pytest.fixture
async def three(serve: Any) -> AsyncIterator[list[Api]]:
    """Three replicas."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(serve()) for _ in range(3)]


async def test_what_is_due_runs_with_what_the_cron_says(
    api: Api, http: httpx.AsyncClient, told: list[logging.LogRecord]
) -> None:
    cron_id = await make(http, metadata={"tag": "x"}, context={"prefix": "> "}, on_run_completed="keep")
    # GIVEN that it is not due yet: nothing
    await api.services.runtime.sweep()
    assert await runs_of(api.database, cron_id) == []

    due = await pass_time(api.database)
    await api.services.runtime.sweep()

    (run,) = await ended(api.database, cron_id)
    assert (run["status"], run["graph_id"], run["assistant_id"]) == ("success", "echo", system_id("echo"))
    echo = str(system_id("echo"))
    assert run["metadata"] == {"tag": "x", "created_by": "system", "assistant_id": echo, "graph_id": "echo"}
    assert run["kwargs"]["input"] == {"text": "c"}
    assert run["kwargs"]["context"] == {"prefix": "> "}
    assert (run["on_completion"], run["hidden"], run["owner"]) == ("keep", True, "local")
    after = await cron(api.database, cron_id)
    assert due < run["created_at"] < after["next_run_date"]
    assert (after["next_run_date"].minute, after["next_run_date"].second) == (0, 0)
    (record,) = told
    assert record.run_id == str(run["run_id"])  # type: ignore[attr-defined]
    # AND never again for this date
    for _ in range(3):
        await api.services.runtime.sweep()
    assert len(await runs_of(api.database, cron_id)) == 1


async def test_dates_that_passed_while_nobody_looked_are_one(api: Api, http: httpx.AsyncClient) -> None:
    cron_id = await make(http)
    await pass_time(api.database, 86_400)

    for _ in range(3):
        await api.services.runtime.sweep()

    assert len(await runs_of(api.database, cron_id)) == 1
    assert (await cron(api.database, cron_id))["next_run_date"] > datetime.now(UTC)


async def test_however_many_sweep_at_once_each_date_gets_one_run(three: list[Api]) -> None:
    http, database = three[0].client(), three[0].database
    thread = (await http.post("/threads", json={})).json()["thread_id"]
    crons = [await make(http) for _ in range(4)]
    crons += [await make(http, f"/threads/{thread}/runs/crons") for _ in range(3)]
    for round_ in range(1, 5):
        await pass_time(database)
        await asyncio.gather(*(api.services.runtime.sweep() for api in three * 3))
        for cron_id in crons:
            assert len(await runs_of(database, cron_id)) == round_
            assert (await cron(database, cron_id))["revision"] == round_ + 1
    for cron_id in crons:
        rows = await ended(database, cron_id)
        assert {row["status"] for row in rows} == {"success"}
    # AND what lost against the others left nothing behind
    stray = "select 1 from slackwater.threads t where hidden and not exists (select 1 from slackwater.runs r where r.thread_id = t.thread_id)"
    assert await database.fetch(stray) == []


async def test_a_change_in_the_same_moment_is_not_lost(three: list[Api]) -> None:
    http, database = three[0].client(), three[0].database
    cron_id = await make(http)
    for round_ in range(1, 6):
        await pass_time(database)
        *_, answer = await asyncio.gather(
            *(api.services.runtime.sweep() for api in three),
            http.patch(f"/runs/crons/{cron_id}", json={"input": {"text": f"{round_}"}}),
        )
        assert answer.status_code == 200
        assert (await cron(database, cron_id))["payload"]["input"] == {"text": f"{round_}"}
        await three[0].services.runtime.sweep()  # it may have been changed under the hands of all of them
        assert len(await runs_of(database, cron_id)) == round_


async def test_what_is_off_or_over_does_not_run(api: Api, http: httpx.AsyncClient) -> None:
    off = await make(http, enabled=False)
    # GIVEN one whose last date is the one that is due
    last = await make(http, end_time=(datetime.now(UTC) + timedelta(seconds=1)).isoformat())
    deleted = await make(http)
    await pass_time(api.database)
    await http.delete(f"/runs/crons/{deleted}")

    for _ in range(2):
        await api.services.runtime.sweep()

    assert await runs_of(api.database, off) == []
    assert await runs_of(api.database, deleted) == []
    assert len(await runs_of(api.database, last)) == 1
    assert (await cron(api.database, last))["next_run_date"] is None


async def test_the_thread_of_a_run_goes_or_stays_as_the_cron_says(api: Api, http: httpx.AsyncClient) -> None:
    kept, gone = await make(http, on_run_completed="keep"), await make(http, on_run_completed="delete")
    for _ in range(2):
        await pass_time(api.database)
        await api.services.runtime.sweep()
        await ended(api.database, kept)
        await ended(api.database, gone)
    assert len({row["thread_id"] for row in await runs_of(api.database, kept)}) == 2
    # WHEN the time is over in which the ends of runs can be read
    await api.database.execute(
        "update slackwater.runs set delete_at = now() - interval '1 second' where delete_at is not null"
    )
    await api.services.runtime.sweep()
    assert len(await runs_of(api.database, kept)) == 2
    assert await runs_of(api.database, gone) == []


@pytest.mark.parametrize(
    ("strategy", "runs", "other"),
    [
        ("reject", 0, "running"),
        ("enqueue", 1, "running"),
        ("interrupt", 1, "interrupted"),
        ("rollback", 1, None),
    ],
)
async def test_a_cron_of_a_busy_thread_keeps_to_its_strategy(
    api: Api,
    http: httpx.AsyncClient,
    told: list[logging.LogRecord],
    strategy: str,
    runs: int,
    other: str | None,
) -> None:
    # GIVEN a thread on which something else runs for a while
    thread = (await http.post("/threads", json={})).json()["thread_id"]
    cron_id = await make(http, f"/threads/{thread}/runs/crons", multitask_strategy=strategy)
    busy = await http.post(
        f"/threads/{thread}/runs",
        json={"assistant_id": "steps", "input": {"n": 50, "sleep": 0.2}},
    )
    await pass_time(api.database)

    for _ in range(2):
        await api.services.runtime.sweep()

    assert len(await runs_of(api.database, cron_id)) == runs
    assert events(told) == ["cron.fired" if runs else "cron.skipped"]
    assert (await cron(api.database, cron_id))["next_run_date"] > datetime.now(UTC)
    async with asyncio.timeout(10):
        while True:
            answer = await http.get(f"/threads/{thread}/runs/{busy.json()['run_id']}")
            if (answer.json()["status"] if answer.status_code == 200 else None) == other:
                break
            await asyncio.sleep(0.05)
    # AND what it says about itself does not stay with the thread
    row = await api.database.fetch_one("select config from slackwater.threads where thread_id = %s", [thread])
    assert row is not None
    assert "cron_id" not in row["config"].get("configurable", {})
    await http.delete(f"/threads/{thread}")
    assert await api.database.fetch("select 1 from slackwater.crons") == []


async def test_a_cron_whose_graph_is_gone_is_told_of_once_and_left_alone_before(
    api: Api, http: httpx.AsyncClient, told: list[logging.LogRecord]
) -> None:
    # GIVEN a cron of an assistant whose graph another release of the project has
    cron_id, healthy = await make(http), await make(http)
    assistant = uuid4()
    await api.database.execute(
        "insert into slackwater.assistants (assistant_id, owner, graph_id, name) values (%s, 'local', 'gone', 'x')",
        [assistant],
    )
    await api.database.execute(
        "update slackwater.crons set assistant_id = %s where cron_id = %s", [assistant, cron_id]
    )
    due = await pass_time(api.database)
    # WHEN it has only just become due, others may know it
    await api.services.runtime.sweep()
    assert (await cron(api.database, cron_id))["next_run_date"] == due
    assert len(await runs_of(api.database, healthy)) == 1
    told.clear()
    # WHEN nobody has known it for a while
    await pass_time(api.database, ABANDONED_SECONDS + 1, cron_id)
    for _ in range(3):
        await api.services.runtime.sweep()
    # THEN that is said, once, and it waits for its next date
    (record,) = told
    assert (record.event, record.cron_id) == ("cron.skipped", cron_id)  # type: ignore[attr-defined]
    assert "graph 'gone' is not served here" in record.getMessage()
    assert (await cron(api.database, cron_id))["next_run_date"] > datetime.now(UTC)


@pytest.mark.parametrize(
    ("change", "event", "goes_on"),
    [
        ('payload = payload || \'{"stream_mode": "telepathy"}\'', "cron.skipped", True),
        ("payload = payload || '{\"config\": 5}'", "cron.failed", True),
        ("timezone = 'Mars/X'", "cron.failed", False),
    ],
)
async def test_one_that_cannot_start_keeps_nobody_else_from_it(
    api: Api,
    http: httpx.AsyncClient,
    told: list[logging.LogRecord],
    change: str,
    event: str,
    goes_on: bool,
) -> None:
    broken, healthy = await make(http), await make(http)
    await api.database.execute(f"update slackwater.crons set {change} where cron_id = %s", [broken])
    await pass_time(api.database)

    for _ in range(3):
        await api.services.runtime.sweep()

    assert sorted(events(told)) == sorted([event, "cron.fired"])
    assert len(await runs_of(api.database, healthy)) == 1
    assert await runs_of(api.database, broken) == []
    assert ((await cron(api.database, broken))["next_run_date"] is not None) == goes_on


@pytest.mark.parametrize(
    ("statement", "table"),
    [("insert", "threads"), ("insert", "runs"), ("update", "threads"), ("update", "crons")],
)
async def test_a_session_that_dies_between_two_statements_leaves_nothing_half_done(
    api: Api, http: httpx.AsyncClient, database: Database, statement: str, table: str
) -> None:
    cron_id = await make(http)
    due = await pass_time(database)
    await database.execute(
        "create function slackwater.die() returns trigger language plpgsql as "
        "$$ begin perform pg_terminate_backend(pg_backend_pid()); return new; end $$"
    )
    await database.execute(
        f"create trigger die after {statement} on slackwater.{table} for each row execute function slackwater.die()"
    )

    with impatient(api.database, 0.5), pytest.raises(OperationalError):  # it is tried again for so long
        await fire_due(api.services)

    assert await runs_of(database, cron_id) == []
    assert await database.fetch("select 1 from slackwater.threads") == []
    assert (await cron(database, cron_id))["next_run_date"] == due
    # AND when nothing is in the way any more, it runs
    await database.execute("drop function slackwater.die() cascade")
    for _ in range(2):
        await api.services.runtime.sweep()
    assert len(await ended(database, cron_id)) == 1


@pytest.mark.parametrize("executed", [True, False], ids=["the answer is lost", "nothing arrives"])
async def test_a_process_that_is_cut_off_at_any_message_costs_no_run_and_makes_none_twice(
    serve: Any, api: Api, http: httpx.AsyncClient, database: Database, database_uri: str, executed: bool
) -> None:
    cron_id = await make(http)
    link = Link(database_uri)
    await link.open()
    try:
        # GIVEN a process that only starts runs, and leaves working on them to others
        async with serve(database_uri=link.uri, max_concurrent_runs=0, poll_seconds=10) as cut:
            for number in range(1, 6):
                before = len(await runs_of(database, cron_id))
                await pass_time(database)
                # WHEN it is cut off at its first, second, … message
                link.cut_at(number, executed=executed)
                with suppress(*DATABASE_UNAVAILABLE):
                    async with asyncio.timeout(0.5):
                        await fire_due(cut.services)
                # THEN, whoever looks next, there is one run
                for _ in range(2):
                    await api.services.runtime.sweep()
                assert len(await runs_of(database, cron_id)) == before + 1, number
                assert (await cron(database, cron_id))["revision"] == number + 1
                link._cut_at, link.is_cut = None, False
    finally:
        await link.close()
    rows = await ended(database, cron_id)
    assert [row["status"] for row in rows] == ["success"] * 5


async def test_on_lambda_the_schedules_sweep_starts_what_is_due(api: Api, http: httpx.AsyncClient) -> None:
    cron_id = await make(http)
    await pass_time(api.database)

    await asyncio.gather(*(begin(api.services, Sweep(), str(n)) for n in range(5)))

    assert len(await ended(api.database, cron_id)) == 1


async def test_a_cron_acts_for_whoever_made_it(serve: Any) -> None:
    async with serve(names=("alice", "bob")) as api:
        alice, bob = api.client("alice"), api.client("bob")
        assistant = (await alice.post("/assistants", json={"graph_id": "echo"})).json()["assistant_id"]
        thread = (await alice.post("/threads", json={})).json()["thread_id"]
        cron_id = await make(alice, f"/threads/{thread}/runs/crons", assistant_id=assistant)
        await pass_time(api.database)

        await api.services.runtime.sweep()

        (run,) = await ended(api.database, cron_id)
        assert (run["owner"], run["assistant_id"]) == ("alice", UUID(assistant))
        path = f"/threads/{thread}/runs/{run['run_id']}"
        assert ((await alice.get(path)).status_code, (await bob.get(path)).status_code) == (200, 404)


async def test_one_owners_crowd_of_crons_keeps_no_other_waiting(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fire, "BATCH", 4)
    monkeypatch.setattr(fire, "ROUNDS", 1)
    async with serve(names=("alice", "bob")) as api:
        for name, count, minutes in (("alice", 30, 60), ("bob", 1, 1)):
            for _ in range(count):
                cron = {"assistant_id": "echo", "input": {"text": name}, "schedule": "0 5 1 1 *"}
                assert (await api.client(name).post("/runs/crons", json=cron)).status_code == 200
            await api.database.execute(
                "update slackwater.crons set next_run_date = now() - %s * interval '1 minute' where owner = %s",
                [minutes, name],
            )

        assert await fire_due(api.services) == 4

        started = await api.database.fetch("select owner from slackwater.runs order by owner")
        assert [row["owner"] for row in started] == ["alice"] * 3 + ["bob"]
