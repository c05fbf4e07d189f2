"""Sync nodes that do not come back: what their process still takes on, and when."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest
from helm import Helm
from rig import Fleet, Process

from slackwater.kit import threads
from slackwater.runtime.execution.node_threads import MAX_THREADS


async def test_a_process_whose_threads_all_hang_claims_nothing_and_says_so(
    fleet: Fleet, helm: Helm, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(threads, "STUCK_SECONDS", 0.2)
    process = await fleet.start(max_concurrent_runs=MAX_THREADS + 8, pool_size=8)
    hold = helm.hold_sync("s")
    runs = [(await process.admit("sync_line")).row["run_id"] for _ in range(MAX_THREADS)]

    async def stuck() -> bool:
        return process.runtime.threads.stuck

    await fleet.until(stuck)
    caplog.set_level(logging.INFO)
    # WHEN more comes
    row = (await process.admit("line")).row
    # THEN it is left to others
    assert row["status"] == "pending"
    assert not process.runtime.worker.has_room
    assert [
        record.levelname for record in caplog.records if record.__dict__.get("event") == "threads.stuck"
    ] == ["ERROR"]
    # until threads come back
    hold.go.set()
    for run in runs:
        await fleet.ended(run)
    assert process.runtime.worker.has_room
    assert await process.claim() == 1
    assert (await fleet.ended(row["run_id"]))["status"] == "success"


async def test_a_lost_run_is_not_claimed_where_a_thread_still_works_for_it(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    hold = helm.hold_sync("s")
    run = (await process.admit("sync_line")).row["run_id"]
    await asyncio.to_thread(hold.reached.wait, 15)
    await fleet.expire(run)
    assert await (await fleet.start(max_concurrent_runs=0)).runtime.sweep() == 1
    asyncio.get_running_loop().set_default_executor(process.runtime.threads)
    await process.runtime.worker.renew_now()
    await asyncio.sleep(0.2)
    assert await process.claim() == 0
    # WHEN it has come back
    del helm.sync_holds["s"]
    hold.go.set()
    # THEN the run goes on here, and no node of it ran beside itself
    assert (await fleet.ended(run))["status"] == "success"
    begun = [(step.phase, step.attempt) for step in helm.steps if step.node == "s"]
    assert begun == [("begin", 1), ("done", 1), ("begin", 2), ("done", 2)]


async def test_what_a_cancelled_run_leaves_behind_is_counted_and_named(
    fleet: Fleet, process: Process, helm: Helm, caplog: pytest.LogCaptureFixture
) -> None:
    hold = helm.hold_sync("s")
    row = (await process.admit("sync_line")).row
    await asyncio.to_thread(hold.reached.wait, 15)
    await process.cancel(row["thread_id"], row["run_id"])
    assert (await fleet.ended(row["run_id"]))["status"] == "interrupted"

    async def left() -> bool:
        return process.runtime.threads.left == 1

    await fleet.until(left)
    (record,) = [record for record in caplog.records if record.__dict__.get("event") == "threads.left"]
    assert (record.__dict__["run_id"], record.__dict__["threads"]) == (str(row["run_id"]), 1)
    hold.go.set()


async def test_what_may_begin_after_a_run_is_told_of_where_nothing_begins_here(
    fleet: Fleet, helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = await fleet.start()
    hold = helm.hold("b")
    first = (await process.admit("line")).row
    await asyncio.wait_for(hold.reached.wait(), 15)
    second = (await process.admit("line", thread_id=first["thread_id"])).row
    # GIVEN a process in which every thread is taken
    monkeypatch.setattr(type(process.runtime.threads), "stuck", property(lambda threads: True))
    given: list[int] = []
    monkeypatch.setattr(process.runtime.wakeups, "send", lambda runs=1: given.append(runs))
    # WHEN a run ends there that another one waits for
    hold.let_go()
    assert (await fleet.ended(first["run_id"]))["status"] == "success"
    await process.runtime.worker.idle(time.monotonic() + 5)
    # THEN others hear of it, since this process does not take it
    assert (await fleet.row(second["run_id"]))["ready"]
    assert given == [1]
