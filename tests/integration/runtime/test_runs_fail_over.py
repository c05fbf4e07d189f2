"""Trouble of the database is no trouble of a run: whatever its connections meet, it is admitted once and goes on."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from helm import Helm
from rig import BRISK, OWNER, Fleet, Process, new_run

from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE, ConnectionFault
from slackwater.runtime.queue import listening
from slackwater.runtime.queue.admission import Overtaken
from tests.support.impatience import impatient
from tests.support.proxy import Proxy, proxied
from tests.support.sessions import until_waiting

READ_ONLY = "set default_transaction_read_only = on"


async def reached(hold: object) -> None:
    await asyncio.wait_for(hold.reached.wait(), 15)  # type: ignore[attr-defined]


async def demote(process: Process, count: int, meanwhile: str = "select 1") -> None:
    """Let so many connections, lanes first, lead to a server that takes no writes, as far as they are concerned."""
    pools = (process.database.lanes, process.database.pool)
    taken = [(pool, await pool.getconn()) for pool in pools for _ in range(pool.max_size)]
    await taken[-1][1].execute(meanwhile)
    for _, connection in taken[:count]:
        await connection.execute(READ_ONLY)
    for pool, connection in taken:
        await pool.putconn(connection)


# Runs


@pytest.mark.parametrize("count", [2, 6])
async def test_connections_to_a_server_that_takes_no_writes_end_no_run(
    fleet: Fleet, helm: Helm, count: int
) -> None:
    process = await fleet.start(pool_size=6, **BRISK)
    hold = helm.hold("b")
    runs = [(await process.admit("line")).row["run_id"] for _ in range(12)]
    readers = [asyncio.create_task(process.read(run)) for run in runs]
    await reached(hold)
    # WHEN some of its connections, or all, can no longer write
    await demote(process, count)
    hold.let_go()
    # THEN the runs go on where they are, and nobody has heard of it
    for run, reader in zip(runs, readers, strict=True):
        row = await fleet.ended(run)
        assert (row["status"], row["attempt"], row["error"]) == ("success", 1, None)
        assert helm.done_by(run) == ["a", "b", "c", "d"]
        assert "error" not in {event.name for event in await reader}
    assert process.database.fault is None


async def test_a_database_that_takes_no_writes_for_a_moment_costs_a_run_that_moment(
    fleet: Fleet, helm: Helm
) -> None:
    process = await fleet.start(pool_size=4, **{**BRISK, "lease_seconds": 20.0})
    hold = helm.hold("b")
    run = (await process.admit("line")).row
    await reached(hold)
    # WHEN the server becomes one that only reads while the run is at work, for those who come as well
    name = (await fleet.database.fetch("select current_database() as name"))[0]["name"]
    await demote(process, 4, f"alter database {name} set default_transaction_read_only = on")
    hold.let_go()
    waiting = asyncio.create_task(process.admit("line"))

    async def knows() -> bool:
        return process.database.fault is ConnectionFault.READ_ONLY

    await fleet.until(knows, what="it is known")
    await asyncio.sleep(0.5)
    assert not waiting.done()
    await fleet.database.execute(f"alter database {name} reset default_transaction_read_only")
    # THEN both it and who came meanwhile go on
    for run_id in (run["run_id"], (await waiting).row["run_id"]):
        row = await fleet.ended(run_id)
        assert (row["status"], row["attempt"]) == ("success", 1)


# Admissions

BREAKS = {
    "the answer is lost": lambda proxy: proxy.lose_answers("insert into slackwater.runs"),
    "the request is lost": lambda proxy: proxy.lose_requests("insert into slackwater.runs"),
    "three answers are lost": lambda proxy: proxy.lose_answers("slackwater.runs", times=3),
}


async def through(fleet: Fleet, proxy: Proxy, **settings: Any) -> Process:
    """Another process of the fleet, which goes another way."""
    far = Fleet(proxy.uri, fleet.database)
    far.processes = fleet.processes
    return await far.start(**settings)


@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize("strategy", ["enqueue", "reject", "interrupt", "rollback"])
async def test_an_admission_whose_answer_is_lost_is_admitted_once(
    database_uri: str, fleet: Fleet, helm: Helm, strategy: str, how: str
) -> None:
    with proxied(database_uri) as proxy:
        process = await through(fleet, proxy)
        BREAKS[how](proxy)
        new = new_run("line", strategy=strategy, idempotency_key="once")
        admitted = await process.runtime.admit(new)
        assert proxy.lost
        assert admitted.row["run_id"] == new.run_id
        row = await fleet.ended(new.run_id)
        assert (row["status"], row["attempt"]) == ("success", 1)
        assert helm.done_by(new.run_id) == ["a", "b", "c", "d"]
        assert len(await fleet.database.fetch("select 1 from slackwater.runs")) == 1
        again = await process.admit("line", idempotency_key="once")
        assert (again.repeated, again.row["run_id"]) == (True, new.run_id)
        await fleet.close()


@pytest.mark.parametrize("how", BREAKS)
async def test_a_batch_whose_answer_is_lost_is_admitted_once(
    database_uri: str, fleet: Fleet, helm: Helm, how: str
) -> None:
    with proxied(database_uri) as proxy:
        process = await through(fleet, proxy)
        BREAKS[how](proxy)
        news = [new_run("line") for _ in range(5)]
        batch = await process.runtime.admit_batch(news)
        assert [admitted.row["run_id"] for admitted in batch] == [new.run_id for new in news]
        for new in news:
            assert (await fleet.ended(new.run_id))["attempt"] == 1
        assert len(await fleet.database.fetch("select 1 from slackwater.runs")) == 5
        await fleet.close()


@pytest.mark.parametrize("how", BREAKS)
async def test_what_an_admission_depends_on_is_not_taken_for_somebody_elses(
    database_uri: str, fleet: Fleet, helm: Helm, how: str
) -> None:
    await fleet.database.execute("create table due (n int)")
    await fleet.database.execute("insert into due values (1)")
    condition = ("update due set n = n + 1 where n = %(n)s returning n", {"n": 1})
    with proxied(database_uri) as proxy:
        process = await through(fleet, proxy)
        BREAKS[how](proxy)
        admitted = await process.runtime.admit(replace(new_run("line"), condition=condition))
        assert await fleet.database.fetch("select n from due") == [{"n": 2}]
        assert (await fleet.ended(admitted.row["run_id"]))["status"] == "success"
        with pytest.raises(Overtaken):
            await process.runtime.admit(replace(new_run("line"), condition=condition))
        await fleet.close()


@pytest.mark.parametrize("strategy", ["enqueue", "reject", "interrupt"])
async def test_an_admission_that_arrives_after_it_was_sent_again_is_admitted_once(
    database_uri: str, fleet: Fleet, helm: Helm, strategy: str
) -> None:
    home = await fleet.start()
    thread_id = (await home.admit("line")).row["thread_id"]
    await fleet.until(lambda: fleet.database.fetch("select 1 from slackwater.runs where status = 'success'"))

    with proxied(database_uri) as proxy:
        process = await through(fleet, proxy)
        async with fleet.database.connection() as connection, connection.transaction():
            # GIVEN an admission that waits for its thread's row when its connection breaks
            await connection.execute("select 1 from slackwater.threads for update")
            new = new_run("line", thread_id=thread_id, strategy=strategy)
            admitting = asyncio.create_task(process.runtime.admit(new))
            await until_waiting(fleet.uri)
            proxy.cut()
            # WHEN it is sent again, for nothing of it is to be seen, and then both get through
            await until_waiting(fleet.uri, 2)
        admitted = await admitting
        assert admitted.row["run_id"] == new.run_id
        assert (await fleet.ended(new.run_id))["attempt"] == 1
        assert len(await fleet.database.fetch("select 1 from slackwater.runs")) == 2
        await fleet.close()


async def test_an_admission_is_given_up_when_the_database_stays_away(database_uri: str, fleet: Fleet) -> None:
    with proxied(database_uri) as proxy:
        process = await through(fleet, proxy)
        proxy.away()
        started = time.monotonic()
        with impatient(process.database, 0.5), pytest.raises(DATABASE_UNAVAILABLE):
            await process.admit("line")
        assert time.monotonic() - started < 8
        assert process.database.fault is ConnectionFault.LOST
        proxy.back()

        async def answers() -> bool:
            with suppress(*DATABASE_UNAVAILABLE):
                return bool(await process.database.fetch("select 1"))
            return False

        await fleet.until(answers)  # the pool connects again once a second
        assert (await fleet.ended((await process.admit("line")).row["run_id"]))["status"] == "success"
        assert process.database.fault is None
        await fleet.close()


# The store, and who listens


@pytest.mark.parametrize("executed", [True, False])
async def test_the_store_of_a_node_waits_for_the_database(
    database_uri: str, fleet: Fleet, helm: Helm, executed: bool
) -> None:
    with proxied(database_uri) as proxy:
        process = await through(fleet, proxy)
        store = process.runtime.store_of(OWNER)
        await store.aput(("notes",), "before", {"n": 0})
        (proxy.lose_answers if executed else proxy.lose_requests)("INSERT INTO store")
        await store.aput(("notes",), "key", {"n": 1})
        assert proxy.lost == 1
        proxy.away()
        getting = asyncio.create_task(store.aget(("notes",), "key"))
        await asyncio.sleep(0.2)
        assert not getting.done()
        proxy.back()
        item = await getting
        assert item is not None
        assert item.value == {"n": 1}
        await fleet.close()


async def test_the_store_gives_up_on_a_database_that_stays_away(database_uri: str, fleet: Fleet) -> None:
    with proxied(database_uri) as proxy:
        process = await through(fleet, proxy, statement_seconds=0.5)
        proxy.away()
        with pytest.raises(DATABASE_UNAVAILABLE):
            await process.runtime.store_of(OWNER).aget(("notes",), "key")
        proxy.back()
        await fleet.close()


async def test_who_listens_leaves_a_server_that_the_pool_has_left(
    fleet: Fleet, helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "LISTEN_SECONDS", 0.1)
    process = await fleet.start(wake="listen")
    listeners = """select pid from pg_stat_activity where application_name = 'slackwater listen'
        and datname = current_database() and query = 'listen slackwater'"""

    async def who() -> int | None:
        row = await fleet.database.fetch_one(listeners)
        return row["pid"] if row else None

    before = await fleet.until(who, what="somebody listens")
    await demote(process, 4)
    await process.database.execute(
        "create table t (n int)"
    )  # which is refused, and then carried out elsewhere

    async def another() -> bool:
        return await who() not in (None, before)

    await fleet.until(another, what="somebody listens on another connection")
