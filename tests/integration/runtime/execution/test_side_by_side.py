"""Graphs that run side by side in one node: each has boundaries of its own, and a drain leaves no body of them running."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID

import pytest
from helm import Helm, Hold
from langchain_core.runnables import RunnableConfig
from rig import Fleet, Process

from slackwater.runtime.process import stop

BUDGET = {"drain_reserve": 1.0, "hard_reserve": 0.3}


class Body(Hold):
    """A node that says whether it is still inside."""

    inside = False

    async def __call__(self, config: RunnableConfig) -> None:
        self.inside = True
        try:
            await super().__call__(config)
        finally:
            self.inside = False


async def begun(
    process: Process, helm: Helm, graph: str, *nodes: str, **options: Any
) -> tuple[UUID, dict[str, Body]]:
    """A run of the graph that is inside `nodes`."""
    node_tasks = {node: Body() for node in nodes}
    helm.hooks.update(node_tasks)
    run = (await process.admit(graph, {"log": []}, **options)).row
    for body in node_tasks.values():
        await asyncio.wait_for(body.reached.wait(), 15)
    return run["run_id"], node_tasks


async def stopped(process: Process, *node_tasks: Body, seconds: float = 8.0) -> list[tuple[str, bool]]:
    """Drain, let go of `node_tasks` when it has begun; the outcomes of the report."""
    for body in node_tasks:
        asyncio.get_running_loop().call_later(0.1, body.let_go)
    report = await process.drain(seconds, **BUDGET)
    return [(line["outcome"], line["handed_over"]) for line in report["runs"]]


async def finished(fleet: Fleet, helm: Helm, run_id: UUID) -> dict[str, Any]:
    """Let another process finish the run; its row."""
    helm.hooks.clear()
    other = await fleet.start()
    await other.claim()
    row = await fleet.ended(run_id)
    assert row["status"] == "success", row["error"]
    return row


async def attempts(fleet: Fleet, run_id: UUID) -> list[int]:
    """Those that the run's readers were told of."""
    return [
        json.loads(event["data"])["attempt"]
        for event in await fleet.events(run_id)
        if event["event"] == "metadata"
    ]


@pytest.mark.parametrize("graph", ["two_gathered", "two_grouped"])
async def test_a_body_beside_the_graph_that_stops_is_cut_and_never_runs_twice_at_once(
    fleet: Fleet, process: Process, helm: Helm, graph: str
) -> None:
    run_id, node_tasks = await begun(process, helm, graph, "l_2", "r_2")
    outcomes = await stopped(process, node_tasks["l_2"])
    # THEN when it is given away, nothing of it runs here
    assert outcomes == [("cancelled", True)]
    assert not node_tasks["r_2"].inside
    assert (await fleet.row(run_id))["stopped"] == "cut"
    row = await finished(fleet, helm, run_id)
    assert row["attempt"] == 2
    assert await attempts(fleet, run_id) == [1, 2]
    assert sorted(helm.done_by(run_id)) == ["a", "l_1", "l_2", "l_3", "r_1", "r_2", "r_3", "z"]
    values = (await fleet.thread(row["thread_id"]))["values"]
    assert values["log"] == ["a", "l_1", "l_2", "l_3", "r_1", "r_2", "r_3", "z"]


async def test_graphs_that_all_reach_a_boundary_are_drained(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    run_id, node_tasks = await begun(process, helm, "two_gathered", "l_2", "r_2")
    assert await stopped(process, *node_tasks.values()) == [("drained", True)]
    await finished(fleet, helm, run_id)
    assert await attempts(fleet, run_id) == [1]
    assert sorted(helm.done_by(run_id)) == ["a", "l_1", "l_2", "l_3", "r_1", "r_2", "r_3", "z"]


async def test_what_is_no_graph_is_cut_beside_one_that_stops(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    run_id, node_tasks = await begun(process, helm, "gathered_plain", "l_2", "plain")
    assert await stopped(process, node_tasks["l_2"]) == [("cancelled", True)]
    assert not node_tasks["plain"].inside
    await finished(fleet, helm, run_id)
    assert sorted(helm.done_by(run_id)) == ["a", "l_1", "l_2", "l_3", "plain", "z"]


async def test_a_thread_beside_a_graph_that_stops_keeps_the_run_until_the_process_leaves(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    hold = helm.hold_sync("in_2")
    run_id, node_tasks = await begun(process, helm, "gathered_thread", "l_2")
    await asyncio.to_thread(hold.reached.wait, 15)
    assert await stopped(process, node_tasks["l_2"], seconds=3.0) == [("left", False)]
    assert (await fleet.row(run_id))["status"] == "running"
    await stop.release(process.runtime, process.budget)
    assert await stop.settle_deferred(process.runtime, process.budget)
    row = await fleet.row(run_id)
    assert (row["status"], row["stopped"]) == ("pending", "cut")
    hold.go.set()
    process.over = True
    await process.database.close(1)


async def test_a_body_that_ignores_its_cancellation_keeps_the_run_until_the_process_leaves(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    stubborn = asyncio.Event()

    class Stubborn(Body):
        async def __call__(self, config: RunnableConfig) -> None:
            self.reached.set()
            while not stubborn.is_set():
                try:
                    await asyncio.wait_for(stubborn.wait(), 10)
                except asyncio.CancelledError:
                    continue

    helm.hooks["r_2"] = Stubborn()
    run_id, node_tasks = await begun(process, helm, "two_gathered", "l_2")
    assert await stopped(process, node_tasks["l_2"], seconds=3.0) == [("left", False)]
    assert (await fleet.row(run_id))["status"] == "running"
    # WHEN it ends after all
    stubborn.set()
    (attempt,) = process.runtime.worker.attempts
    assert attempt.task is not None
    await asyncio.wait({attempt.task}, timeout=5)
    assert (await fleet.row(run_id))["stopped"] == "cut"


async def test_an_error_among_drains_is_an_error(fleet: Fleet, process: Process, helm: Helm) -> None:
    run_id, node_tasks = await begun(process, helm, "grouped_error", "l_2")
    assert await stopped(process, node_tasks["l_2"]) == [("finished", False)]
    row = await fleet.row(run_id)
    assert (row["status"], row["error"]["error"]) == ("error", "ExceptionGroup")


async def test_a_run_that_fails_leaves_no_graph_running_beside_the_next_one(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    body = helm.hooks["r_1"] = Body()
    run = (await process.admit("failing_beside", {"log": []})).row
    row = await fleet.ended(run["run_id"])
    assert (row["status"], row["error"]["error"]) == ("error", "ValueError")
    assert not body.inside


async def test_what_an_earlier_node_has_left_behind_is_not_part_of_the_run(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    run_id, node_tasks = await begun(process, helm, "keeping", "b")
    try:
        assert await stopped(process, node_tasks["b"]) == [("drained", True)]
        assert not helm.kept[-1].done()
    finally:
        helm.kept.pop().cancel()
    await finished(fleet, helm, run_id)


@pytest.mark.parametrize("durability", ["async", "sync", "exit"])
@pytest.mark.parametrize("graph", ["swallowing", "falling_back"])
async def test_a_node_that_takes_a_drain_for_an_error_of_its_graph_has_no_result(
    fleet: Fleet, process: Process, helm: Helm, graph: str, durability: str
) -> None:
    run_id, node_tasks = await begun(process, helm, graph, "l_2", durability=durability)
    assert await stopped(process, node_tasks["l_2"]) == [("cancelled", True)]
    row = await finished(fleet, helm, run_id)
    log = (await fleet.thread(row["thread_id"]))["values"]["log"]
    beside = ["r_1", "r_2", "r_3"] if graph == "swallowing" else []
    assert log == ["a", "l_1", "l_2", "l_3", *beside, "z"]


async def test_a_node_that_asks_for_a_drain_and_ends_has_its_result(
    fleet: Fleet, process: Process, helm: Helm
) -> None:
    run = (await process.admit("ending_early", {"log": []})).row
    await fleet.until(lambda: "ends_early" in helm.begun_by(run["run_id"]))
    assert await stopped(process) == [("drained", True)]
    await finished(fleet, helm, run["run_id"])
    assert (await fleet.thread(run["thread_id"]))["values"]["log"] == ["a", "early", "z"]
