"""Graphs that nodes invoke themselves: from any thread and any event loop, with every durability."""

from __future__ import annotations

import asyncio

import pytest
from helm import Helm
from rig import Fleet, Process

from slackwater.runtime.queue.states import StopWish

IN = ["in_1", "in_2", "in_3"]

INVOKED = {
    "invoked": IN,
    "invoked_remembering": IN,
    "invoked_without": IN,
    "invoked_own_saver": IN,
    "streamed": IN,
    "own_loop": IN,
    "own_loop_threads": IN,
    "own_loop_gather": IN + IN,
    "own_loop_group": IN + IN,
    "gather": IN + IN,
    "group": IN + IN,
    "threaded": IN,
    "in_tool": IN,
    "in_async_tool": IN,
    "blocking": ["chained", *IN],
    "looking": [*IN, "state:a", "history:2"],
    "storing": ["async", "sync"],
}
"""What the node between `a` and `z` adds to the log, by graph."""

IMPOSSIBLE = {
    "async": set(),
    "sync": {
        "invoked_without"
    },  # langgraph 1.2.22 fails by itself: a graph that stores nothing waits for what it has stored
    "exit": {"looking"},  # nothing is stored yet that it could see
}


@pytest.mark.parametrize("durability", ["async", "sync", "exit"])
async def test_a_graph_that_a_node_invokes_runs_to_its_end(
    fleet: Fleet, process: Process, durability: str
) -> None:
    graphs = {graph: log for graph, log in INVOKED.items() if graph not in IMPOSSIBLE[durability]}
    runs = {
        graph: (await process.admit(f"nested_{graph}", {"log": []}, durability=durability)).row
        for graph in graphs
    }
    rows = {graph: await fleet.ended(run["run_id"]) for graph, run in runs.items()}
    assert {graph: (row["status"], row["error"]) for graph, row in rows.items()} == dict.fromkeys(
        graphs, ("success", None)
    )
    logs = {graph: (await fleet.thread(run["thread_id"]))["values"]["log"] for graph, run in runs.items()}
    assert logs == {graph: ["a", *log, "z"] for graph, log in graphs.items()}


DRAINABLE = [
    "invoked",
    "invoked_remembering",
    "streamed",
    "own_loop_threads",
    "threaded",
    "in_tool",
    "in_async_tool",
]


@pytest.mark.parametrize("graph", DRAINABLE)
async def test_a_drain_stops_the_invoked_graph_at_its_own_boundary(
    fleet: Fleet, process: Process, helm: Helm, graph: str
) -> None:
    hold = helm.hold_sync("in_2")
    run = (await process.admit(f"nested_{graph}", {"log": []})).row
    await asyncio.to_thread(hold.reached.wait, 15)
    asyncio.get_running_loop().call_later(0.1, hold.go.set)
    report = await process.stop(5.0, drain_reserve=1.0, hard_reserve=0.3)
    assert [(line["outcome"], line["handed_over"]) for line in report["runs"]] == [("drained", True)]
    other = await fleet.start()
    await other.claim()
    assert (await fleet.ended(run["run_id"]))["status"] == "success"
    assert (await fleet.thread(run["thread_id"]))["values"]["log"] == ["a", *IN, "z"]
    # THEN no node has run twice, the inner ones neither
    assert helm.done_by(run["run_id"]) == ["a", *IN, "z"]


@pytest.mark.parametrize("graph", ["invoked", "own_loop_threads"])
async def test_a_thread_that_waits_for_the_writer_is_let_go_when_the_lease_is_lost(
    fleet: Fleet, helm: Helm, graph: str
) -> None:
    process = await fleet.start(linked=True)
    hold = helm.hold_sync("in_2")
    run = (await process.admit(f"nested_{graph}", {"log": []})).row
    await asyncio.to_thread(hold.reached.wait, 15)
    (attempt,) = process.runtime.worker.live.values()
    # GIVEN a database that is silent when the thread has something to store
    assert process.link is not None
    assert attempt.task is not None
    process.link.hang()
    hold.go.set()
    await asyncio.sleep(0.3)
    assert process.runtime.threads.busy(run["run_id"])
    # WHEN the run is no longer this process's
    attempt.stop(StopWish.LEASE_LOST)
    await asyncio.wait({attempt.task}, timeout=8)
    # THEN neither the run nor its thread waits on
    assert attempt.task.done()

    async def idle() -> bool:
        return not process.runtime.threads.busy(run["run_id"])

    await fleet.until(idle, 5, "the end of the node's thread")
    assert "z" not in helm.begun_by(run["run_id"])
    process.link.flow()


async def test_the_stores_sync_methods_in_the_event_loop_say_what_to_use(
    fleet: Fleet, process: Process
) -> None:
    with pytest.raises(asyncio.InvalidStateError, match="async method"):
        process.runtime.store_of("me").put(("notes",), "key", {})
