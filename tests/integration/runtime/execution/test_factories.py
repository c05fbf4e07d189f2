"""A run's end does not wait for what its graph's factory does: it is settled before, and that has a bound."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest
from helm import Helm
from rig import BRISK, Fleet

from slackwater.graphs import opened, registry

PROJECT = "factories.json"


async def reached(hold: object) -> None:
    await asyncio.wait_for(hold.reached.wait(), 15)  # type: ignore[attr-defined]


async def test_a_run_is_settled_and_its_readers_told_before_its_factory_is_left(
    fleet: Fleet, helm: Helm, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(opened, "LEAVE_SECONDS", 0.3)
    process = await fleet.start(project=PROJECT)
    close = helm.hold("close")
    run = (await process.admit("held")).row
    # WHEN the end of its factory hangs
    told = await fleet.told(process, run["run_id"], run["thread_id"])
    await reached(close)
    # THEN it has its result, its thread is free, and so is its place here
    assert told.state[:3] == ("success", "idle", {"log": ["the factory's"]})
    assert process.runtime.worker.attempts == []
    again = (await process.admit("held", thread_id=run["thread_id"])).row
    assert again["status"] == "running"
    assert (await fleet.ended(again["run_id"]))["status"] == "success"

    # AND what hangs is given up, and named
    async def given_up() -> bool:
        events = [record.__dict__.get("event") for record in caplog.records]
        return events.count("graph.not_left") == 2

    await fleet.until(given_up)
    assert "'held'" in caplog.text
    await process.runtime.graphs.left(5)
    assert process.runtime.graphs._opened == set()


async def test_what_a_factory_closes_in_time_is_closed_before_a_stop_is_over(
    fleet: Fleet, helm: Helm
) -> None:
    process = await fleet.start(project=PROJECT)
    close = helm.hold("close")
    run = (await process.admit("held")).row["run_id"]
    await fleet.ended(run)
    await reached(close)
    asyncio.get_running_loop().call_later(0.2, close.let_go)
    await process.drain(30.0)
    assert helm.done_by(run) == ["tells", "close"]


async def test_a_stop_neither_waits_for_a_factory_that_hangs_nor_says_that_its_run_was_left(
    fleet: Fleet, helm: Helm
) -> None:
    process = await fleet.start(project=PROJECT)
    node = helm.hold("tells")
    helm.hold("close")
    run = (await process.admit("held")).row["run_id"]
    await reached(node)
    asyncio.get_running_loop().call_later(0.1, node.let_go)
    began = time.monotonic()
    report = await process.drain(3.0, drain_reserve=1.0, hard_reserve=0.6)
    assert time.monotonic() - began < 8
    assert [(line["outcome"], line["handed_over"]) for line in report["runs"]] == [("finished", False)]
    row = await fleet.row(run)
    assert (row["status"], row["stalls"]) == ("success", 0)


async def test_a_factory_that_does_not_let_itself_be_cancelled_does_not_keep_its_run(
    fleet: Fleet, helm: Helm
) -> None:
    process = await fleet.start(project=PROJECT)
    hold = helm.hold("ignores")
    run = (await process.admit("slow")).row
    await reached(hold)
    await process.cancel(run["thread_id"], run["run_id"])
    assert (await fleet.ended(run["run_id"]))["status"] == "interrupted"
    hold.let_go()


async def test_a_sweep_reads_the_other_threads_when_one_factory_hangs(
    fleet: Fleet, helm: Helm, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(registry, "OPEN_SECONDS", 1.0)
    process = await fleet.start(project=PROJECT)
    threads = []
    for graph in ("slow", "held"):
        run = (await process.admit(graph)).row
        await fleet.ended(run["run_id"])
        threads.append(run["thread_id"])
    await fleet.database.execute("update slackwater.threads set status = 'busy', \"values\" = null")
    caplog.set_level(logging.CRITICAL, "slackwater.runtime.runtime")
    hold = helm.hold("ignores")
    await asyncio.wait_for(process.runtime.sweep(), 8)
    slow, held = [await fleet.thread(thread_id) for thread_id in threads]
    assert (held["status"], held["values"]) == ("idle", {"log": ["the factory's"]})
    assert (slow["status"], slow["error"]["error"]) == ("error", "GraphSilent")
    assert "'slow'" in slow["error"]["message"]
    hold.let_go()


async def test_a_factory_that_hangs_is_never_the_end_of_a_run_by_no_progress(
    fleet: Fleet, helm: Helm
) -> None:
    helm.hold("close")
    process = await fleet.start(project=PROJECT, **BRISK)
    run = (await process.admit("held")).row["run_id"]
    for _ in range(3):
        await fleet.ended(run)
        await process.stop(1.0, drain_reserve=0.6, hard_reserve=0.2)
        process = await fleet.start(project=PROJECT, **BRISK)
    row = await fleet.row(run)
    assert (row["status"], row["attempt"], row["stalls"], row["error"]) == ("success", 1, 0, None)
