"""The drain and recovery tests of the gateway that this one was conceived from (D1 to D8, R1, R2), in our terms.

There a drained run was cancelled and marked; here it is handed over, and shown as `pending`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest
from helm import Helm
from rig import CUT, Fleet, Process

from tests.support.impatience import impatient


async def test_d1_a_run_whose_node_blocks_is_cut_and_requeued(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    hold = helm.hold("b")
    run = (await process.admit("line")).row["run_id"]
    await asyncio.wait_for(hold.reached.wait(), 15)
    report = await process.stop(**CUT)
    assert [line["outcome"] for line in report["runs"]] == ["cancelled"]
    row = await fleet.row(run)
    assert (row["status"], row["stopped"], row["worker"]) == ("pending", "cut", None)


async def test_d2_a_node_that_swallows_its_cancellation_cannot_push_the_stop_past_its_deadline(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    hold = helm.hold("ignores")
    await process.admit("stubborn")
    await asyncio.wait_for(hold.reached.wait(), 15)
    began = time.monotonic()
    await process.drain(0.6, drain_reserve=0.4, hard_reserve=0.2)
    assert time.monotonic() - began < 5
    (attempt,) = process.runtime.worker.live.values()
    assert attempt.deferred
    hold.let_go()
    assert attempt.task is not None
    await asyncio.wait({attempt.task}, timeout=5)


async def test_d3_a_stop_without_runs_may_be_repeated_and_changes_nothing(
    fleet: Fleet, process: Process
) -> None:
    told = await fleet.reference(process, "line")
    await fleet.idle(process)
    before = await fleet.row(told.row["run_id"])
    for _ in range(2):
        assert (await process.drain(0.5, drain_reserve=0.2, hard_reserve=0.1))["runs"] == []
    assert await fleet.row(told.row["run_id"]) == before


async def test_d4_d5_nothing_reaches_the_pool_after_it_was_released(
    fleet: Fleet, process: Process, helm: Helm, caplog: pytest.LogCaptureFixture
) -> None:
    # GIVEN a run with a checkpoint, in the middle of a node
    hold = helm.hold("b")
    admitted = await process.admit("line")
    await asyncio.wait_for(hold.reached.wait(), 15)
    order: list[str] = []
    drain, close = process.drain, process.database.pool.close

    async def drained(*arguments: Any, **reserves: Any) -> dict[str, Any]:
        report = await drain(*arguments, **reserves)
        order.append("runs drained")
        return report

    async def closed(*arguments: Any, **options: Any) -> None:
        order.append(f"pool closed, {process.database.gate.in_flight} writers")
        await close(*arguments, **options)

    process.drain, process.database.pool.close = drained, closed  # type: ignore[method-assign]
    # WHEN it is drained while the node goes on
    asyncio.get_running_loop().call_later(0.1, hold.let_go)
    await process.stop()
    # THEN the pool is closed only after the run has been handed over, with nobody writing
    assert order == ["runs drained", "pool closed, 0 writers"]
    row = await fleet.row(admitted.row["run_id"])
    assert (row["status"], row["stopped"]) == ("pending", "drained")
    assert await fleet.checkpoints(admitted.row["thread_id"])
    assert "PoolClosed" not in caplog.text


async def test_d6_a_run_that_finishes_while_it_is_drained_keeps_its_result(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    hold = helm.hold("d")
    run = (await process.admit("line")).row["run_id"]
    await asyncio.wait_for(hold.reached.wait(), 15)
    asyncio.get_running_loop().call_later(0.1, hold.let_go)
    report = await process.stop()
    assert [line["outcome"] for line in report["runs"]] == ["finished"]
    assert (await fleet.row(run))["status"] == "success"


async def test_d7_a_state_that_cannot_be_written_is_reported_with_its_run_and_left_to_the_lease(
    fleet: Fleet, helm: Helm, caplog: pytest.LogCaptureFixture
) -> None:
    process = await fleet.start(linked=True)
    hold = helm.hold("b")
    run = (await process.admit("line")).row["run_id"]
    await asyncio.wait_for(hold.reached.wait(), 15)
    # WHEN the database stops answering as the drain begins
    assert process.link is not None
    process.link.hang()
    hold.let_go()
    caplog.set_level(logging.WARNING)
    with impatient(process.database, 0.2):
        report = await process.drain(1.0, drain_reserve=0.5, hard_reserve=0.2)
    # THEN the drain keeps its deadline, says which run it could not settle, and the run is taken over
    assert report["took_ms"] < 5000
    assert [(line["run_id"], line["outcome"], line["handed_over"]) for line in report["runs"]] == [
        (str(run), "left", False)
    ] or any(a.deferred for a in process.runtime.worker.live.values())
    await process.die()
    await fleet.expire(run)
    other = await fleet.start()
    assert await other.runtime.sweep() == 1
    await other.claim()
    assert (await fleet.ended(run))["status"] == "success"


async def test_d8_a_task_that_does_not_end_cannot_hold_up_the_release(fleet: Fleet, process: Process) -> None:
    async def never() -> None:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if over.is_set():
                    raise

    over = asyncio.Event()
    stuck = asyncio.create_task(never())
    await asyncio.sleep(0)
    process.runtime.worker._tasks.append(stuck)
    began = time.monotonic()
    await process.drain(0.8, drain_reserve=0.3, hard_reserve=0.1)
    await process.release()
    assert time.monotonic() - began < 8
    over.set()
    stuck.cancel()
    await asyncio.wait({stuck})


async def test_r1_orphans_are_taken_over_and_finished_and_an_error_only_after_the_guard(
    fleet: Fleet, helm: Helm
) -> None:
    home = await fleet.start(max_concurrent_runs=0)
    run = None
    for attempt in range(1, 4):
        process = await fleet.start(linked=True)
        hold = helm.hold("b")
        if run is None:
            run = (await process.admit("line", durability="sync")).row["run_id"]
        else:
            await process.claim()
        await asyncio.wait_for(hold.reached.wait(), 15)
        await process.die()
        await fleet.expire(run)
        await home.runtime.sweep()
        row = await fleet.row(run)
        assert row["status"] == ("pending" if attempt < 3 else "error"), row
    assert row["error"]["error"] == "NoProgress"
    assert "in b" in row["error"]["message"]
    assert (await fleet.thread(row["thread_id"]))["status"] == "error"


async def test_r2_an_old_orphan_does_not_change_what_a_newer_run_has_made_of_its_thread(
    fleet: Fleet, process: Process
) -> None:
    told = await fleet.reference(process, "line")
    # GIVEN the row of a run that was lost long ago, on a thread that a newer one has finished
    await fleet.database.execute(
        "update slackwater.threads set status = 'busy' where thread_id = %s", (told.row["thread_id"],)
    )
    # WHEN the sweep looks after threads that nobody works on
    await process.runtime.sweep()
    # THEN the thread shows what its last checkpoint says
    assert (await fleet.thread(told.row["thread_id"]))["status"] == "idle"
