"""Nodes that do not let themselves be cancelled: their run ends without them, and they can write nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from helm import Helm
from rig import BRISK, DEFER, OWNER, Fleet

from slackwater.errors import RunOver
from slackwater.runtime.execution import attempt as module
from slackwater.runtime.queue.cancel import CancelAction
from slackwater.runtime.queue.states import StopWish
from slackwater.telemetry.metrics import Metric, recorder

PROJECT = "strays.json"


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes are given up soon."""
    monkeypatch.setattr(module, "UNWIND_SECONDS", dict.fromkeys(module.UNWIND_SECONDS, 0.3))


async def reached(hold: object) -> None:
    await asyncio.wait_for(hold.reached.wait(), 15)  # type: ignore[attr-defined]


async def ended(task: asyncio.Task[Any] | None) -> None:
    assert task is not None
    await asyncio.wait_for(asyncio.shield(task), 5)


@pytest.mark.usefixtures("soon")
async def test_a_cancelled_run_ends_and_its_thread_goes_on_without_a_node_that_does_not_listen(
    fleet: Fleet, helm: Helm, caplog: pytest.LogCaptureFixture
) -> None:
    process = await fleet.start(project=PROJECT, max_concurrent_runs=1)
    before = recorder.levels[Metric.NODES_LEFT]
    hold = helm.hold("ignores")
    run = (await process.admit("stubborn")).row
    await reached(hold)
    attempt = process.runtime.worker.live[run["run_id"]]
    following = (await process.admit("line", thread_id=run["thread_id"])).row["run_id"]
    reader = asyncio.create_task(process.read(run["run_id"]))
    # WHEN
    await process.cancel(run["thread_id"], run["run_id"])
    row = await fleet.ended(run["run_id"])
    # THEN
    assert (row["status"], row["worker"]) == ("interrupted", None)
    await reader
    # its thread and its place are free
    assert (await fleet.ended(following))["status"] == "success"
    assert attempt.stray is not None
    assert not attempt.stray.done()
    assert recorder.levels[Metric.NODES_LEFT] == before + 1
    (record,) = [record for record in caplog.records if record.__dict__.get("event") == "run.given_up"]
    assert record.__dict__["run_id"] == str(run["run_id"])
    # AND what the node does in the end is nobody's business
    kept = await fleet.checkpoints(run["thread_id"]), await fleet.events(run["run_id"])
    thread = await fleet.thread(run["thread_id"])
    hold.let_go()
    await ended(attempt.stray)
    assert (await fleet.checkpoints(run["thread_id"]), await fleet.events(run["run_id"])) == kept
    assert await fleet.thread(run["thread_id"]) == thread
    assert await fleet.row(run["run_id"]) == row
    assert recorder.levels[Metric.NODES_LEFT] == before
    assert "z" not in helm.begun_by(run["run_id"])


@pytest.mark.usefixtures("soon")
async def test_a_run_that_has_had_its_time_ends_without_such_a_node(fleet: Fleet, helm: Helm) -> None:
    process = await fleet.start(project=PROJECT, run_timeout_seconds=1000.0, **BRISK)
    hold = helm.hold("ignores")
    run = (await process.admit("stubborn")).row
    await reached(hold)
    process.runtime.worker.live[run["run_id"]].timeout_at = 0.0
    row = await fleet.ended(run["run_id"])
    assert row["status"] == "timeout"

    async def read_again() -> bool:
        thread = await fleet.thread(run["thread_id"])
        return (thread["status"], thread["values"]) == ("error", {"log": ["a"]})

    await fleet.until(read_again)
    hold.let_go()


@pytest.mark.usefixtures("soon")
async def test_a_rollback_is_carried_out_without_such_a_node(fleet: Fleet, helm: Helm) -> None:
    process = await fleet.start(project=PROJECT)
    first = await fleet.reference(process, "line")
    hold = helm.hold("ignores")
    run = (await process.admit("stubborn", thread_id=first.row["thread_id"])).row
    await reached(hold)
    stray = process.runtime.worker.live[run["run_id"]].task
    await process.cancel(run["thread_id"], run["run_id"], action=CancelAction.ROLLBACK)

    async def gone() -> bool:
        return await fleet.find(run["run_id"]) is None

    await fleet.until(gone)
    kept = await fleet.checkpoints(run["thread_id"])
    hold.let_go()
    await ended(stray)
    assert await fleet.checkpoints(run["thread_id"]) == kept
    assert (await fleet.thread(run["thread_id"]))["values"] == first.thread["values"]


@pytest.mark.usefixtures("soon")
async def test_a_lost_run_is_claimed_again_when_its_node_has_had_its_time(fleet: Fleet, helm: Helm) -> None:
    process = await fleet.start(project=PROJECT, **BRISK)
    hold = helm.hold("ignores")
    run = (await process.admit("stubborn")).row["run_id"]
    await reached(hold)
    del helm.hooks["ignores"]
    await fleet.database.execute("update slackwater.runs set worker = 'another' where run_id = %s", [run])
    await process.runtime.worker.renew_now()
    await fleet.expire(run)
    row = await fleet.ended(run)
    assert (row["status"], row["attempt"]) == ("success", 2)
    hold.let_go()


async def test_a_stop_ends_a_cancelled_run_without_its_node(fleet: Fleet, helm: Helm) -> None:
    process = await fleet.start(project=PROJECT)
    hold = helm.hold("ignores")
    run = (await process.admit("stubborn")).row
    await reached(hold)
    stray = process.runtime.worker.live[run["run_id"]].task
    await process.cancel(run["thread_id"], run["run_id"])
    began = time.monotonic()
    report = await process.drain(**DEFER)
    assert time.monotonic() - began < 5
    assert [(line["outcome"], line["handed_over"]) for line in report["runs"]] == [("finished", False)]
    assert (await fleet.row(run["run_id"]))["status"] == "interrupted"
    hold.let_go()
    await ended(stray)


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("graph", ["keeps_notes", "keeps_notes_sync"])
async def test_a_node_that_outlives_its_run_has_no_store_any_more(
    fleet: Fleet, helm: Helm, graph: str
) -> None:
    process = await fleet.start(project=PROJECT)
    hold = helm.hold("ignores") if graph == "keeps_notes" else helm.hold_sync("s")
    run = (await process.admit(graph)).row
    if graph == "keeps_notes":
        await reached(hold)
    else:
        await asyncio.to_thread(hold.reached.wait, 15)
    stray = process.runtime.worker.live[run["run_id"]].task
    await process.cancel(run["thread_id"], run["run_id"])
    assert (await fleet.ended(run["run_id"]))["status"] == "interrupted"
    store = process.runtime.store_of(OWNER)
    kept = await store.asearch(("notes",))
    assert [item.key for item in kept] == ["before"]
    # WHEN it writes, reads and deletes
    let_go: Callable[[], None] = hold.let_go if graph == "keeps_notes" else hold.go.set  # type: ignore[union-attr]
    let_go()
    await ended(stray)

    async def refused() -> bool:
        return len(helm.errors) == 3

    await fleet.until(refused)
    assert [type(error) for error in helm.errors] == [RunOver] * 3
    assert "has ended" in str(helm.errors[0])
    assert await store.asearch(("notes",)) == kept


async def test_the_database_refuses_what_a_run_that_was_lost_puts_into_the_store(
    fleet: Fleet, helm: Helm
) -> None:
    # GIVEN a process that does not know yet that its run is another's
    process = await fleet.start(project=PROJECT)
    hold = helm.hold_sync("s")
    run = (await process.admit("keeps_notes_sync")).row["run_id"]
    await asyncio.to_thread(hold.reached.wait, 15)
    await fleet.expire(run)
    assert await (await fleet.start(project=PROJECT, max_concurrent_runs=0)).runtime.sweep() == 1
    asyncio.get_running_loop().set_default_executor(process.runtime.threads)
    attempt = process.runtime.worker.live[run]
    # WHEN its node goes on
    hold.go.set()
    await ended(attempt.task)
    # THEN nothing is written: only what it reads is still answered
    assert [type(error) for error in helm.errors] == [RunOver, RunOver]
    kept = await process.runtime.store_of(OWNER).asearch(("notes",))
    assert [item.key for item in kept] == ["before"]


async def test_a_run_uses_the_store_as_ever(fleet: Fleet, helm: Helm) -> None:
    process = await fleet.start(project=PROJECT)
    for graph in ("keeps_notes", "keeps_notes_sync"):
        run = (await process.admit(graph)).row["run_id"]
        assert (await fleet.ended(run))["status"] == "success"
        kept = await process.runtime.store_of(OWNER).asearch(("notes",))
        assert [item.key for item in kept] == ["after"]
    assert helm.errors == []


@pytest.mark.parametrize("durability", ["async", "exit"])
async def test_a_run_ends_without_the_callbacks_of_its_graph_that_do_not(
    fleet: Fleet,
    helm: Helm,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    durability: str,
) -> None:
    monkeypatch.setattr("slackwater.runtime.execution.callbacks.LAST_SECONDS", 0.3)
    process = await fleet.start(project=PROJECT)
    hook = helm.hold("hook")
    run = (await process.admit("hooked", durability=durability)).row
    await reached(hook)
    told = await fleet.told(process, run["run_id"], run["thread_id"])
    assert told.state[:3] == ("success", "idle", {"log": ["a"]})
    assert (await fleet.checkpoints(run["thread_id"]))[-1]["metadata"]["step"] == 1
    assert "'hooked'" in caplog.text
    # and one that ends in time is waited for
    helm.hooks.clear()
    again = (await process.admit("hooked")).row["run_id"]
    assert (await fleet.ended(again))["status"] == "success"
    assert [step.node for step in helm.steps].count("hook") == 2


async def test_what_a_node_calls_with_the_handlers_of_its_graph_does_not_end_it(
    fleet: Fleet, helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slackwater.runtime.execution.callbacks.LAST_SECONDS", 0.1)
    process = await fleet.start(project=PROJECT)
    hold = helm.hold("apart")
    run = (await process.admit("hooked_apart")).row
    await reached(hold)
    await asyncio.sleep(0.3)
    hold.let_go()
    row = await fleet.ended(run["run_id"])
    assert row["status"] == "success"
    assert (await fleet.thread(run["thread_id"]))["values"] == {"log": ["apart", "z"]}


def test_a_drain_has_times_of_its_own() -> None:
    assert module.UNWIND_SECONDS.keys() == set(StopWish) - {StopWish.DRAIN}
