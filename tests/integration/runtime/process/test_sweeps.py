"""Sweeps when there is much to do, or when a part of it goes wrong."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any
from uuid import UUID

import psycopg
import pytest
from helm import Helm
from psycopg.errors import QueryCanceled
from rig import OWNER, Fleet, Process, new_run

from slackwater.kit.ids import uuid7
from slackwater.postgres.pool import StatementTimeout
from slackwater.runtime.events.journal import BEGINNING
from slackwater.runtime.queue import retention
from slackwater.runtime.queue.batch import Batch

# Runs of dead processes

DEAD = """
update slackwater.runs set status = 'running', ready = false, holds_thread = true, worker = 'dead', fence = 1, attempt = 1,
  claimed_at = clock_timestamp() - interval '40 seconds', lease_until = clock_timestamp() - interval '10 seconds'"""


async def orphans(fleet: Fleet, number: int, **options: Any) -> list[UUID]:
    """Runs on threads of their own whose process has died."""
    idle = await fleet.start(max_concurrent_runs=0)
    runs: list[UUID] = []
    while len(runs) < number:
        batch = [new_run("line", **options) for _ in range(min(100, number - len(runs)))]
        await idle.runtime.admit_batch(batch)
        runs += [run.run_id for run in batch]
    await fleet.database.execute(DEAD)
    await fleet.database.execute("update slackwater.threads set fence = 1, status = 'busy'")
    return runs


async def test_six_hundred_orphans_are_taken_over_by_one_sweep(fleet: Fleet) -> None:
    await orphans(fleet, 600)
    heir = await fleet.start(max_concurrent_runs=0)
    assert await heir.runtime.sweep() == 600
    rows = await fleet.database.fetch(
        "select status, ready, holds_thread, stopped, reason, stalls, handovers, worker, attempt, fence, "
        "round(worked_seconds) as worked, count(*) as runs from slackwater.runs group by 1,2,3,4,5,6,7,8,9,10,11"
    )
    assert rows == [
        {
            "status": "pending",
            "ready": True,
            "holds_thread": True,
            "stopped": "lost",
            "reason": "lease_expired",
            "stalls": 1,
            "handovers": 1,
            "worker": None,
            "attempt": 1,
            "fence": 1,
            "worked": 30,
            "runs": 600,
        }
    ]
    assert await heir.runtime.sweep() == 0


async def test_sweeps_of_several_processes_share_the_orphans(fleet: Fleet) -> None:
    await orphans(fleet, 300)
    heirs = [await fleet.start(max_concurrent_runs=0) for _ in range(3)]
    found = await asyncio.gather(*(heir.runtime.sweep() for heir in heirs))
    rest = await heirs[0].runtime.sweep()
    assert sum(found) + rest == 300
    rows = await fleet.database.fetch(
        "select handovers, status, count(*) as runs from slackwater.runs group by 1, 2"
    )
    assert rows == [{"handovers": 1, "status": "pending", "runs": 300}]


async def test_among_many_orphans_each_gets_what_is_its_own(fleet: Fleet, process: Process) -> None:
    runs = await orphans(fleet, 120)
    wished, rolled_back, overdue, stuck, handed, stalled, waits_behind = runs[:7]
    execute = fleet.database.execute
    await execute("update slackwater.runs set cancel_action = 'interrupt' where run_id = %s", [wished])
    await execute("update slackwater.runs set cancel_action = 'rollback' where run_id = %s", [rolled_back])
    await execute("update slackwater.runs set worked_seconds = 1e9 where run_id = %s", [overdue])
    await execute("update slackwater.runs set stalls = 2 where run_id = %s", [stuck])
    await execute("update slackwater.runs set handovers = 1000 where run_id = %s", [handed])
    await execute("update slackwater.runs set stalls = 1 where run_id = %s", [stalled])
    thread = (await fleet.row(waits_behind))["thread_id"]
    behind = (await process.admit("line", thread_id=thread)).row["run_id"]
    heir = await fleet.start(max_concurrent_runs=0)
    assert await heir.runtime.sweep() == 120
    found = {run: await fleet.find(run) for run in runs}
    statuses = {run: row["status"] if row else None for run, row in found.items()}
    assert [statuses[run] for run in runs[:7]] == [
        "interrupted",
        None,
        "timeout",
        "error",
        "error",
        "pending",
        "pending",
    ]
    assert {statuses[run] for run in runs[7:]} == {"pending"}
    assert found[stalled] is not None
    assert found[stalled]["stalls"] == 2
    # The younger run still waits for the one that holds its thread.
    rows = await fleet.database.fetch(
        "select run_id, ready from slackwater.runs where thread_id = %s", [thread]
    )
    assert {row["run_id"]: row["ready"] for row in rows} == {waits_behind: True, behind: False}
    await process.claim(2)
    for run in (await fleet.ended(wished), await fleet.ended(overdue)):
        assert (await fleet.thread(run["thread_id"]))["status"] != "busy"


async def test_an_orphan_whose_thread_is_locked_keeps_nobody_waiting(fleet: Fleet) -> None:
    runs = await orphans(fleet, 20)
    heir = await fleet.start(max_concurrent_runs=0)
    locked = await fleet.row(runs[0])
    async with await psycopg.AsyncConnection.connect(fleet.uri) as somebody:
        await somebody.execute(
            "select 1 from slackwater.threads where thread_id = %s for update", [locked["thread_id"]]
        )
        async with asyncio.timeout(5):
            assert await heir.runtime.sweep() == 19
    assert await heir.runtime.sweep() == 1


async def test_what_expires_is_taken_over_while_a_job_hangs(fleet: Fleet) -> None:
    heir = await fleet.start(begin=False, max_concurrent_runs=0, sweep_seconds=0.1)
    hangs = asyncio.Event()

    async def hang() -> None:
        hangs.set()
        await asyncio.Event().wait()

    heir.runtime.sweeper.jobs = {"hangs": hang}
    await heir.runtime.start()
    await asyncio.wait_for(hangs.wait(), 5)
    runs = await orphans(fleet, 5)
    for run in runs:
        await fleet.reaches(run, "pending")


# Jobs


@pytest.mark.parametrize("how", ["raises", "hangs", "does not listen"])
async def test_a_graph_that_cannot_be_opened_stops_no_other_job(
    fleet: Fleet, helm: Helm, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr("slackwater.runtime.process.takeover.READ_SECONDS", 0.7)
    monkeypatch.setattr("slackwater.kit.bounded.UNWIND_SECONDS", 0.1)
    process = await fleet.start(max_concurrent_runs=4)
    threads = [(await fleet.reference(process, "made")).row["thread_id"] for _ in range(2)]
    plain = (await fleet.reference(process, "line")).row["thread_id"]
    gone = await fleet.reference(process, "line", on_completion="delete")
    # GIVEN threads that nobody has read since their last run, and things that are past keeping
    await fleet.database.execute("update slackwater.threads set status = 'busy' where not hidden")
    await fleet.database.execute("update slackwater.runs set delete_at = now() where delete_at is not null")
    await fleet.database.execute(
        "insert into slackwater.idempotency_keys values ('a', 'k', gen_random_uuid(), now() - interval '2 days')"
    )
    await fleet.database.execute(
        "insert into store (prefix, key, value, expires_at) values ('a', 'k', '{}', now() - interval '1 day')"
    )
    over = asyncio.Event()

    async def factory(config: object) -> None:
        if how == "raises":
            raise TimeoutError("its own database is away")
        while not over.is_set():
            try:
                await over.wait()
            except asyncio.CancelledError:
                if how == "hangs":
                    raise

    # WHEN the graph of some cannot be opened
    helm.hooks["factory"] = factory
    async with asyncio.timeout(10):
        await process.runtime.sweep()
    # THEN everything else has been seen to
    assert await fleet.find(gone.row["run_id"]) is None
    assert await fleet.database.fetch("select 1 from slackwater.idempotency_keys") == []
    assert await fleet.database.fetch("select 1 from store") == []
    assert (await fleet.thread(plain))["status"] == "idle"
    if how == "raises":
        assert {(await fleet.thread(thread))["status"] for thread in threads} == {"error"}
        # Nor is whoever cancels a run answered with an error of that graph.
        waiting = (await process.admit("made", thread_id=threads[0], after_seconds=60)).row["run_id"]
        found = await process.cancel(threads[0], waiting)
        assert found.ended == (waiting,)
    over.set()


async def test_a_job_that_does_not_let_itself_be_cancelled_is_left_and_not_begun_again(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("slackwater.runtime.process.sweeper.JOB_STATEMENTS", 0.02)
    monkeypatch.setattr("slackwater.runtime.process.sweeper.UNWIND_SECONDS", 0.1)
    process = await fleet.start()
    over, begun, others = asyncio.Event(), [], []

    async def deaf() -> None:
        begun.append(1)
        while not over.is_set():
            with suppress(asyncio.CancelledError):
                await over.wait()

    async def other() -> None:
        others.append(1)

    process.runtime.sweeper.jobs = {"deaf": deaf, "other": other}
    for _ in range(3):
        await process.runtime.sweeper.do_jobs()
    assert (len(begun), len(others)) == (1, 3)
    assert [r.job for r in caplog.records if getattr(r, "event", "") == "sweep.late"] == ["deaf"] * 3  # type: ignore[attr-defined]
    over.set()
    await asyncio.sleep(0.05)
    await process.runtime.sweeper.do_jobs()
    assert (len(begun), len(others)) == (2, 4)


async def test_in_an_invocation_the_sweep_takes_half_of_the_time(fleet: Fleet) -> None:
    process = await fleet.start()
    loop = asyncio.get_running_loop()
    done: list[str] = []

    async def hang() -> None:
        await asyncio.Event().wait()

    async def other() -> None:
        done.append("other")

    process.runtime.sweeper.jobs = {"hangs": hang, "other": other}
    process.runtime.open_window(loop.time() + 4)
    began = loop.time()
    await process.runtime.sweep()
    assert 1.9 < loop.time() - began < 3.9
    assert done == []
    # The next one begins where time was left.
    process.runtime.open_window(float("inf"))
    process.runtime.sweeper.jobs = {"other": other}
    await process.runtime.sweep()
    assert done == ["other"]


# What is kept for a time


async def talkative(fleet: Fleet, process: Process, events: int, fences: int = 1) -> tuple[UUID, UUID]:
    """A run that ended long ago, with so many events under each of its fences."""
    told = await fleet.reference(process, "line")
    run, thread = told.row["run_id"], told.row["thread_id"]
    await fleet.database.execute("delete from slackwater.run_events where run_id = %s", [run])
    await fleet.database.execute(
        "insert into slackwater.run_events (run_id, fence, seq, thread_id, event, data) "
        "select %s, f, s, %s, 'values', '{}' from generate_series(1, %s) f, generate_series(1, %s) s",
        [run, thread, fences, events],
    )
    await fleet.database.execute(
        "update slackwater.runs set ended_at = ended_at - interval '1 day', fence = %s, last_event = %s where run_id = %s",
        [fences, f"{fences}-{events}", run],
    )
    await fleet.database.execute("update slackwater.threads set fence = %s", [fences])
    return run, thread


async def test_however_many_events_a_run_has_each_statement_deletes_a_bounded_number(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = await fleet.start(event_retention_seconds=100)
    run, _ = await talkative(fleet, process, 1000, 2)
    young, _ = await talkative(fleet, process, 10)
    await fleet.database.execute("update slackwater.runs set ended_at = now() where run_id = %s", [young])
    process.runtime.sweeper._batches["events"] = Batch(100, 100)
    deleted: list[int] = []
    fetch = process.database.fetch

    async def counting(sql: Any, params: Any = None) -> Any:
        rows = await fetch(sql, params)
        if sql == retention._WIPE:
            deleted.append(rows[0]["events"])
        return rows

    monkeypatch.setattr(process.database, "fetch", counting)
    await process.runtime.sweep()
    assert max(deleted) == 100
    assert sum(deleted) == 2000
    left = await fleet.database.fetch("select distinct run_id from slackwater.run_events")
    assert left == [{"run_id": young}]
    # What is done is not looked at again.
    deleted.clear()
    await process.runtime.sweep()
    assert sum(deleted) == 0
    assert (await fleet.row(run))["trimmed"] == "gone"


async def test_who_reads_while_events_are_deleted_finds_all_of_them_or_hears_of_the_gap(fleet: Fleet) -> None:
    process = await fleet.start(event_retention_seconds=100)
    run, thread = await talkative(fleet, process, 30, 2)
    assert len(await process.read(run)) == 60
    # WHEN a process has died in the middle: the events of the first fence are gone, and some of the second
    await fleet.database.fetch(retention._MARK_OLD, {"seconds": 100})
    for limit in (30, 10):
        await fleet.database.fetch(retention._WIPE, {"limit": limit})
        rows = await fleet.database.fetch("select count(*) as left from slackwater.run_events")
        assert rows[0]["left"] in (30, 20)
        # THEN nobody is shown a part as if it were the whole
        (event,) = await process.read(run)
        assert (event.name, str(event.id)) == ("gap", "2-30")
        async with asyncio.timeout(5):
            reader = process.runtime.thread_log.follow(OWNER, thread, BEGINNING)
            batch = await anext(reader)
            await reader.aclose()
        assert [entry.name for entry in batch] == ["gap", "run_done"]


async def test_the_events_of_a_stateless_run_go_bit_by_bit_too(fleet: Fleet, process: Process) -> None:
    told = await fleet.reference(process, "line", on_completion="delete")
    run = told.row["run_id"]
    await fleet.database.execute(
        "insert into slackwater.run_events (run_id, fence, seq, thread_id, event, data) "
        "select %s, 1, 1000 + s, %s, 'values', '{}' from generate_series(1, 500) s",
        [run, told.row["thread_id"]],
    )
    await fleet.database.execute("update slackwater.runs set delete_at = now() where run_id = %s", [run])
    process.runtime.sweeper._batches["events"] = Batch(100, 100)
    await process.runtime.sweep()
    assert await fleet.find(run) is None
    for table in ("slackwater.run_events", "slackwater.threads", "checkpoints"):
        assert await fleet.database.fetch(f"select 1 from {table}") == [], table  # type: ignore[arg-type]


def test_a_batch_is_halved_when_it_was_too_much_and_doubled_when_it_was_not() -> None:
    batch = Batch(8, 10)
    for error in (StatementTimeout("slow"), QueryCanceled("slow"), asyncio.CancelledError(), TimeoutError()):
        before = batch.size
        with pytest.raises(type(error)), batch.sized():
            raise error
        assert batch.size == max(1, before // 2)
    with pytest.raises(ValueError), batch.sized():  # says nothing about how much it was
        raise ValueError
    assert batch.size == 1
    for expected in (2, 4, 8, 10, 10):
        with batch.sized() as limit:
            assert limit == batch.size
        assert batch.size == expected


async def test_threads_of_a_batch_are_all_looked_at_in_turn(
    fleet: Fleet, process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    await fleet.database.execute(
        "insert into slackwater.threads (thread_id, owner, status) "
        "select gen_random_uuid(), 'a', 'busy' from generate_series(1, 25)"
    )
    process.runtime.sweeper._batches["threads"] = Batch(10, 10)
    process.runtime.sweeper._after = uuid7()  # where the last sweep had no time left
    await process.runtime.sweep()
    rows = await fleet.database.fetch("select status, count(*) as threads from slackwater.threads group by 1")
    assert rows == [{"status": "idle", "threads": 25}]
