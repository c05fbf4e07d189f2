"""An asynchronous failover forgets claims: whoever made them owns nothing any more, and no id is used a second time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from helm import Helm
from psycopg.types.json import Jsonb
from rig import Fleet, new_run

from slackwater.kit.ids import uuid7
from slackwater.postgres.pool import Database
from slackwater.postgres.schema import migrate
from slackwater.runtime.events.journal import EventId
from slackwater.runtime.queue import admission, claims
from slackwater.runtime.queue.states import Outcome
from tests.support.replication import Replication, replicated

LEAP = 10_000


@pytest.fixture(scope="module")
def servers() -> Iterator[Replication]:
    with replicated() as pair:
        yield pair


@asynccontextmanager
async def on(server_uri: str) -> AsyncIterator[Database]:
    database = Database(server_uri, max_size=3, statement_seconds=10, name="test")
    await database.open()
    try:
        yield database
    finally:
        await database.close(1)


async def claim(database: Database, worker: str) -> claims.ClaimedRun:
    (run,) = await claims.claim(database, worker=worker, graphs=["line"], limit=1, lease_seconds=60)
    return run


async def test_a_promoted_server_gives_no_fence_that_a_lost_one_may_have_given(servers: Replication) -> None:
    known, forgotten = new_run("line"), new_run("line")
    fences: dict[str, list[int]] = {"known": [], "forgotten": []}
    # GIVEN a run that the standby knows to be waiting
    await migrate(servers.primary.uri())
    async with on(servers.primary.uri()) as primary:
        await admission.admit(primary, known, worker="a", claim=False, lease_seconds=60)
    servers.until_caught_up()
    # WHEN each server forgets the claims of the one before, and a whole thread with its run
    for worker in "abc":
        servers.cut()
        async with on(servers.primary.uri()) as primary:
            await admission.admit(primary, forgotten, worker=worker, claim=False, lease_seconds=60)
            taken = {(run := await claim(primary, worker)).run_id: run.fence for _ in range(2)}
        fences["known"].append(taken[known.run_id])
        fences["forgotten"].append(taken[forgotten.run_id])
        servers.promote()
        servers.demote()
    # THEN no number comes twice
    assert fences == {"known": [1, LEAP + 1, 2 * LEAP + 1], "forgotten": [1, LEAP + 1, 2 * LEAP + 1]}


async def test_on_one_server_fences_are_counted_one_by_one(database: Database) -> None:
    new = new_run("line")
    for worker in "abc":
        await admission.admit(database, new, worker=worker, claim=False, lease_seconds=60)
        assert (await claim(database, worker)).fence == "_abc".index(worker)
        await database.execute(
            "update slackwater.runs set status = 'success', holds_thread = false where run_id = %s",
            [new.run_id],
        )
        new = replace(new, run_id=uuid7())


async def promoted(database: Database) -> None:
    """The epoch moves on, as on a server that has just been promoted."""
    await database.execute(
        "create or replace function slackwater.epoch() returns integer language sql as 'select 1'"
    )


async def test_two_owners_of_one_run_do_not_meet_after_a_failover(fleet: Fleet, helm: Helm) -> None:
    a, b = await fleet.start(), await fleet.start()
    idle = await fleet.start(max_concurrent_runs=0)
    run = (await idle.admit("line")).row
    run_id, thread_id = run["run_id"], run["thread_id"]
    before = {
        table: await fleet.database.fetch(f"select to_jsonb(t) as row from slackwater.{table} t")
        for table in ("runs", "threads")
    }
    hold = helm.hold("c")
    await a.claim()
    await hold.reached.wait()
    (lost,) = a.runtime.worker.attempts
    said = [event.id for event in lost.journal.after(EventId(0, 0)) or ()]
    await lost.writer.flush()
    # WHEN the server that is promoted knows nothing of the claim, nor of anything since
    for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes", "slackwater.run_events"):
        await fleet.database.execute(f"delete from {table}")  # type: ignore[call-overload]
    for table, rows in before.items():
        await fleet.database.execute(f"delete from slackwater.{table}")
        await fleet.database.execute(
            f"insert into slackwater.{table} overriding system value "
            f"select (jsonb_populate_record(null::slackwater.{table}, r)).* from unnest(%s::jsonb[]) r",
            [[Jsonb(row["row"]) for row in rows]],
        )
    await promoted(fleet.database)
    # and another process claims the run, while the first one goes on
    del helm.hooks["c"]
    second = helm.hold("d")
    await b.claim()
    await second.reached.wait()
    hold.let_go()
    assert lost.task is not None
    await asyncio.wait_for(asyncio.shield(lost.task), 5)
    assert lost.outcome is Outcome.LOST
    second.let_go()
    told = await fleet.told(b, run_id, thread_id)
    # THEN only the second one has written, ended the run, and said anything under its ids
    assert (told.row["status"], told.row["attempt"], told.row["fence"]) == ("success", 1, LEAP + 1)
    assert told.thread["values"]["log"] == list("abcd")
    steps = [row["metadata"]["step"] for row in await fleet.checkpoints(thread_id)]
    assert steps == [-1, 0, 1, 2, 3, 4]
    assert said
    assert not {str(event_id) for event_id in said} & {
        f"{e['fence']}-{e['seq']}" for e in await fleet.events(run_id)
    }
    # and a reader who has the last id of what is forgotten goes on where the run was taken over
    assert await b.read(run_id, said[-1]) == await b.read(run_id)
    assert await idle.read(run_id, said[-1]) == await idle.read(run_id)
