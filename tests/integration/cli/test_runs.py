"""`slackwater runs`: on rows whose processes are gone, and on a run that a live process works on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from psycopg.types.json import Jsonb
from support.command import Answer
from support.server import LEASE_SECONDS, fleet_of

from slackwater.api.assistants.service import system_id
from slackwater.kit.ids import uuid7
from slackwater.postgres.pool import Database
from slackwater.runtime.fenced import settlement
from slackwater.runtime.fenced.settlement import HandOver, Whose
from slackwater.runtime.queue import admission
from slackwater.runtime.queue.admission import NewRun
from slackwater.runtime.queue.states import Stopped

PROJECT = Path(__file__).parents[2] / "graphs"
GONE = "elsewhere:1:dead"
"""A process that is no more."""

Slackwater = Callable[..., Awaitable[Answer]]


@pytest.fixture
def command(slackwater: Callable[..., Answer], database_uri: str) -> Slackwater:
    """Runs a command on the test's database."""
    return partial(asyncio.to_thread, partial(slackwater, SLACKWATER_DATABASE_URI=database_uri))


async def admitted(
    database: Database, *, owner: str = "alice", thread_id: UUID | None = None, claim: float | None = None
) -> UUID:
    """A new run; with `claim` owned by a process that is gone, for so many seconds."""
    new = NewRun(
        run_id=uuid7(),
        thread_id=thread_id or uuid7(),
        owner=owner,
        assistant_id=system_id("steps"),
        graph_id="steps",
        kwargs={"input": {"n": 1}, "config": {"configurable": {}}},
        metadata={},
        assistant_metadata={},
        assistant_configurable={},
        create_thread=True,
    )
    await admission.admit(
        database, new, worker=GONE, claim=claim is not None, lease_seconds=1 if claim is None else claim
    )
    return new.run_id


async def handed_over(database: Database, run_id: UUID) -> None:
    """As a drain leaves a run."""
    row = await database.fetch_one("select * from slackwater.runs where run_id = %s", [run_id])
    assert row is not None
    whose = Whose(
        run_id, row["thread_id"], row["owner"], row["fence"], row["worker"], checkpoint_id="1f0-the-last"
    )
    await settlement.hand_over(database, HandOver(whose, Stopped.DRAINED, "SIGTERM", 10, "step"))


async def test_show_tells_programs_what_they_rely_on(command: Slackwater, database: Database) -> None:
    run_id = await admitted(database, claim=300)

    running = (await command("runs", "show", run_id, "--json")).json

    fixed = ("status", "attempt", "handovers", "reason", "owner", "fence", "last_checkpoint_id")
    assert {name: running[name] for name in fixed} == {
        "status": "running",
        "attempt": 1,
        "handovers": 0,
        "reason": None,
        "owner": GONE,
        "fence": 1,
        "last_checkpoint_id": None,
    }
    assert (running["run_id"], running["principal"], running["graph_id"]) == (str(run_id), "alice", "steps")

    await handed_over(database, run_id)
    pending = (await command("runs", "show", run_id, "--json")).json

    assert {name: pending[name] for name in fixed} == {
        "status": "pending",
        "attempt": 1,
        "handovers": 1,
        "reason": "SIGTERM",
        "owner": None,
        "fence": 1,
        "last_checkpoint_id": "1f0-the-last",
    }


async def test_show_tells_a_person_what_the_run_does(command: Slackwater, database: Database) -> None:
    waiting, dead, between = (
        await admitted(database),
        await admitted(database, claim=0),
        await admitted(database, claim=300),
    )
    await handed_over(database, between)

    first_lines = [
        (await command("runs", "show", run)).out.partition("\n")[0] for run in (waiting, dead, between)
    ]

    assert first_lines[0].startswith("pending: waiting for its turn")
    assert f"running, but the lease of {GONE} expired" in first_lines[1]
    assert first_lines[2].startswith("pending: handed over, drained (SIGTERM)")


async def test_show_of_a_run_that_is_not_there(command: Slackwater) -> None:
    unknown, wrong = await command("runs", "show", uuid7()), await command("runs", "show", "seven")

    assert (unknown.code, "There is no run" in unknown.sentence) == (1, True)
    assert (wrong.code, wrong.sentence) == (2, "Invalid run ID: must be a UUID, not 'seven'.")


async def test_list_filters_and_shows_the_runs_of_every_owner(
    command: Slackwater, database: Database
) -> None:
    old = await admitted(database, owner="alice")
    thread = uuid7()
    new = await admitted(database, owner="bob", thread_id=thread, claim=300)

    async def listed(*filters: object) -> list[str]:
        return [row["run_id"] for row in (await command("runs", "list", "--json", *filters)).json]

    assert await listed() == [str(new), str(old)]
    assert await listed("--status", "running") == [str(new)]
    assert await listed("--status", "success") == []
    assert await listed("--status", "pending", "--status", "running", "--limit", "1") == [str(new)]
    assert await listed("--thread", thread) == [str(new)]
    first, second = (await command("runs", "list")).out.splitlines()[1:]
    assert first.startswith(f"{new} ")
    assert "bob" in first
    assert f"running in {GONE} (attempt 1; lease" in first
    assert second.startswith(f"{old} ")
    assert "pending: waiting for its turn" in second
    assert (await command("runs", "list", "--status", "asleep")).code == 2


async def test_cancel_ends_a_run_that_nobody_works_on(command: Slackwater, database: Database) -> None:
    waiting, between = await admitted(database), await admitted(database, claim=300)
    await handed_over(database, between)

    answers = [await command("runs", "cancel", run) for run in (waiting, between)]

    rows = await database.fetch("select status, cancel_action, holds_thread, ready from slackwater.runs")
    assert [answer.code for answer in answers] == [0, 0]
    assert all(answer.out.startswith("Ended: interrupted") for answer in answers)
    assert (
        rows
        == [{"status": "interrupted", "cancel_action": "interrupt", "holds_thread": False, "ready": False}]
        * 2
    )


async def test_cancel_with_rollback_deletes_the_run(command: Slackwater, database: Database) -> None:
    run_id = await admitted(database)

    answer = await command("runs", "cancel", run_id, "--action", "rollback", "--json")

    assert (answer.json["ended"], answer.json["status"]) == (True, None)
    assert await database.fetch("select 1 from slackwater.runs") == []


async def test_cancel_of_a_run_with_an_owner_is_a_wish_that_is_kept(
    command: Slackwater, database: Database
) -> None:
    run_id = await admitted(database, claim=300)

    answer = await command("runs", "cancel", run_id)
    with_patience = await command("runs", "cancel", run_id, "--action", "rollback", "--wait", "0.1")

    row = await database.fetch_one("select status, cancel_action from slackwater.runs")
    assert (answer.code, GONE in answer.out) == (0, True)
    assert with_patience.code == 1
    assert row == {"status": "running", "cancel_action": "interrupt"}


async def test_cancel_of_a_run_that_has_ended_fails(command: Slackwater, database: Database) -> None:
    run_id = await admitted(database)
    await command("runs", "cancel", run_id)

    answer = await command("runs", "cancel", run_id)

    assert (answer.code, "has already ended: interrupted" in answer.sentence) == (1, True)


async def test_cancel_reaches_the_process_that_works_on_the_run(
    command: Slackwater, database_uri: str, tmp_path: Path
) -> None:
    async with fleet_of(database_uri, tmp_path, PROJECT) as fleet:
        (server,) = await fleet.start()
        run = await _slow_run(server.url)
        shown = (await command("runs", "show", run["run_id"], "--json")).json

        answer = await command("runs", "cancel", run["run_id"], "--wait", "15", "--json")

        assert (shown["status"], shown["owner"].split(":")[1]) == ("running", str(server.pid))
        assert shown["last_checkpoint_id"] is not None
        assert (answer.json["ended"], answer.json["status"]) == (True, "interrupted")
        async with httpx.AsyncClient(base_url=server.url) as http:
            thread = (await http.get(f"/threads/{run['thread_id']}")).json()
        assert thread["status"] == "interrupted"
        assert "slackwater runs cancel" in thread["error"]["message"]


async def test_cancel_of_a_run_whose_process_was_killed(
    command: Slackwater, database: Database, database_uri: str, tmp_path: Path
) -> None:
    async with fleet_of(database_uri, tmp_path, PROJECT) as fleet:
        # GIVEN a run whose process is gone, and nobody else there
        (server,) = await fleet.start()
        run = await _slow_run(server.url)
        server.sigkill()
        await server.wait()

        # WHEN somebody wants it to stop
        answer = await command("runs", "cancel", run["run_id"])
        assert answer.code == 0

        # THEN the next process that comes ends it, and does not go on with it
        await asyncio.sleep(LEASE_SECONDS)
        await fleet.start()
        waited = await command("runs", "cancel", run["run_id"], "--wait", "15")
        row = await database.fetch_one("select status, attempt, cancel_reason from slackwater.runs")
        assert waited.code in (0, 1)  # it may have ended before
        assert row == {
            "status": "interrupted",
            "attempt": 1,
            "cancel_reason": "cancelled with `slackwater runs cancel`",
        }


async def test_a_cancelled_run_that_was_handed_over_leaves_a_true_thread(
    command: Slackwater, database: Database, database_uri: str, tmp_path: Path
) -> None:
    async with fleet_of(database_uri, tmp_path, PROJECT) as fleet:
        # GIVEN a run that was drained in the middle
        (server,) = await fleet.start()
        run = await _slow_run(server.url)
        server.sigterm()
        await server.wait()
        assert (await command("runs", "show", run["run_id"], "--json")).json["status"] == "pending"

        # WHEN it is cancelled while nobody is there, and a process comes later
        assert (await command("runs", "cancel", run["run_id"])).out.startswith("Ended: interrupted")
        await fleet.start()

        # THEN its thread says that there is work left
        async with asyncio.timeout(15):
            while True:
                thread = await database.fetch_one('select status, "values" from slackwater.threads')
                assert thread is not None
                if thread["status"] == "interrupted":
                    break
                await asyncio.sleep(0.05)
        assert thread["values"]["i"] >= 1


async def _slow_run(url: str) -> dict[str, Any]:
    """A run in the middle of its supersteps."""
    async with httpx.AsyncClient(base_url=url) as http:
        body = {"assistant_id": "steps", "input": {"n": 600, "sleep": 0.1}, "if_not_exists": "create"}
        run: dict[str, Any] = (await http.post(f"/threads/{uuid7()}/runs", json=body)).json()
        async with asyncio.timeout(10):
            while True:
                state = (await http.get(f"/threads/{run['thread_id']}/state")).json()
                if state["values"].get("i"):
                    return run
                await asyncio.sleep(0.05)


async def test_what_an_error_says_is_shown_as_it_is(command: Slackwater, database: Database) -> None:
    run_id = await admitted(database)
    said = {"error": "ValueError", "message": "[/] ends no [red]tag[/red] :smile:"}
    await database.execute(
        "update slackwater.runs set status = 'error', ready = false, ended_at = now(), error = %s where run_id = %s",
        [Jsonb(said), run_id],
    )

    listed = await command("runs", "list")

    assert listed.code == 0, listed.err
    assert said["message"] in listed.out
