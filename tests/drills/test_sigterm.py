"""SIGTERM: nothing is lost, nothing that was finished runs again, and another process goes on."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from tests.drills.drill import Drill, Run, batches, outcomes, steps
from tests.support.effects import finished, repeated, started

pytestmark = pytest.mark.drill

INNER = ["inner-1", "inner-2", "inner-3"]


@dataclass(frozen=True)
class Shape:
    """A graph's input, the nodes that it runs, and what its thread's `log` holds in the end."""

    given: dict[str, Any]
    nodes: list[str]
    log: list[str] | None = None
    """A subgraph gives its parent the whole of its own log, in which the parent's is."""


CROWD = ["plan", "work-0", "work-1", "work-2", "work-3", "join"]
NESTED = Shape({"sleep": 0.15}, ["first", *INNER, "last"], ["first", "first", *INNER, "last"])
SHAPES = {
    "line": Shape({"n": 10, "sleep": 0.1}, steps(10)),
    "sync_line": Shape({"n": 10, "sleep": 0.1}, steps(10)),
    "crowd": Shape({"n": 4, "sleep": 0.1}, CROWD),
    "nest": NESTED,
    "nest_own": NESTED,
    "deep": Shape(
        {"sleep": 0.1},
        ["first", "outer-1", *INNER, "outer-2", "last"],
        ["first", "first", "outer-1", "first", "outer-1", *INNER, "outer-2", "last"],
    ),
}


async def test_runs_stopped_at_random_moments_go_on_elsewhere_and_each_node_runs_once(drill: Drill) -> None:
    async for batch, first, _ in drill.pairs():
        # GIVEN runs in flight, each at a moment of its own
        runs = await drill.begin_many(first, "line", {"n": 12, "sleep": 0.1}, batch)
        await drill.until_started(runs)
        await asyncio.sleep(random.uniform(0, 0.3))
        # WHEN their process is asked to stop
        await drill.stop(first)
        # THEN all of them were handed over, and the other process finishes them
        assert first.report()["reason"] == "SIGTERM"
        assert outcomes(first.report(), runs).keys() <= {"drained", "finished"}
        await drill.until_over(runs)
        for run in runs:
            drill.check_run(run, steps(12))


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_every_shape_of_graph_is_handed_over_at_a_boundary_with_every_durability(
    drill: Drill, durability: str
) -> None:
    async for batch, first, _ in drill.pairs():
        runs = []
        for graph, shape in SHAPES.items():
            runs += [
                drill.begin(first, graph, shape.given, spread=0.5, durability=durability)
                for _ in range(max(1, batch // len(SHAPES)))
            ]
        begun = list(await asyncio.gather(*runs))
        await drill.until_started(begun)
        await asyncio.sleep(random.uniform(0, 0.3))
        await drill.stop(first)
        assert outcomes(first.report(), begun).keys() <= {"drained", "finished"}
        await drill.until_over(begun)
        for run in begun:
            drill.check_run(run, SHAPES[run.graph].nodes, SHAPES[run.graph].log)


async def test_stopped_twice_in_a_row_a_run_goes_on_each_time(drill: Drill) -> None:
    for batch in batches():
        first, second = await drill.fleet.start(2)
        runs = await drill.begin_many(first, "line", {"n": 25, "sleep": 0.1}, batch)
        await drill.until_started(runs, 3)
        third = drill.fleet.launch()
        await drill.stop(first)
        await third.until_ready()
        await drill.stop(second)
        await drill.until_over(runs)
        for run in runs:
            drill.check_run(run, steps(25))
            assert drill.row(run)["handovers"] >= 1


async def test_under_plain_uvicorn_runs_are_handed_over_while_a_stream_is_open(drill: Drill) -> None:
    # GIVEN stock uvicorn, which waits for open connections before it tells the application anything
    first, _ = await drill.fleet.start(2, uvicorn=True)
    runs = await drill.begin_many(first, "line", {"n": 10, "sleep": 0.1}, 8)
    await drill.until_started(runs)
    reader = asyncio.create_task(_read_raw(drill.client(first), runs[0]))
    await asyncio.sleep(0.2)
    # WHEN it gets SIGTERM
    began = first.sigterm()
    code = await first.wait()
    # THEN the drain does not wait for the reader
    assert time.monotonic() - began < 6
    await reader
    assert code in (0, -15)
    assert outcomes(first.report(), runs).keys() <= {"drained", "finished"}
    await drill.until_over(runs)
    for run in runs:
        drill.check_run(run, steps(10))


async def _read_raw(client: LangGraphClient, run: Run) -> bytes:
    """Read a run's stream as bytes until the connection ends, in whatever way."""
    got = b""
    try:
        path = f"/threads/{run.thread_id}/runs/{run.run_id}/stream"
        async with client.http.client.stream("GET", path, headers={"last-event-id": "-1"}) as response:
            async for chunk in response.aiter_bytes():
                got += chunk
    except httpx.HTTPError:
        pass
    return got


async def test_a_second_sigterm_changes_nothing(drill: Drill) -> None:
    first, _ = await drill.fleet.start(2)
    runs = await drill.begin_many(first, "line", {"n": 4, "sleep": 0.8}, 8, spread=0.2)
    await drill.until_started(runs)
    # WHEN a second and a third signal come while the nodes finish
    first.sigterm()
    await asyncio.sleep(0.1)
    first.sigterm()
    await asyncio.sleep(0.1)
    first.sigterm()
    # THEN it is the same drain
    assert await first.wait() == 0
    assert outcomes(first.report(), runs) == {"drained": 8}
    await drill.until_over(runs)
    for run in runs:
        drill.check_run(run, steps(4))


async def test_a_second_sigint_forces_and_the_runs_are_taken_over_after_their_lease(drill: Drill) -> None:
    first, _ = await drill.fleet.start(2)
    runs = await drill.begin_many(
        first, "line", {"n": 3, "sleep": 0.2, "long_at": 2, "long": 3.0}, 6, spread=0
    )
    await drill.until_started(runs, 2)
    first.sigint()
    await asyncio.sleep(0.2)
    assert first.alive
    began = first.sigint()
    assert await first.wait() == 130
    assert time.monotonic() - began < 6
    await drill.until_over(runs)
    for run in runs:
        effects = drill.effects.of(run.run_id)
        assert drill.row(run)["status"] == "success"
        assert finished(effects) == steps(3)
        assert repeated(started(effects)) == ["step-2"]  # it was in the middle of it
        assert drill.row(run)["stopped"] == "lost"


CUT = {"SLACKWATER_GRACE_SECONDS": "4", "SLACKWATER_DRAIN_RESERVE_SECONDS": "2"}
"""Nodes are cut after two seconds, and as much is left for what comes then, on a busy machine."""


async def test_a_node_longer_than_the_grace_period_is_cut_in_time_and_runs_again_alone(drill: Drill) -> None:
    first, _ = await drill.fleet.start(2, env=CUT)
    given = {"n": 4, "sleep": 0.05, "long_at": 3, "long": 4.0}
    # The first would be finished just by the deadline; the others are cut by it.
    runs = await drill.begin_many(first, "line", given, 6, spread=0.3)
    sync = await drill.begin_many(first, "sync_line", given, 3, spread=0.3)
    await drill.until_started(runs + sync, 3)
    took = await drill.stop(first)
    assert took < 4.3
    report = first.report()
    assert outcomes(report, runs + sync) == {"cancelled": 9}
    assert report["took_ms"] < 4000
    await drill.until_over(runs + sync)
    for run in runs + sync:
        effects = drill.check_run(run, steps(4))
        assert repeated(started(effects)) == ["step-3"]
        row = drill.row(run)
        assert (row["attempt"], row["handovers"], row["stopped"]) == (2, 1, "cut")


async def test_siblings_that_finished_before_the_cut_do_not_run_again(drill: Drill) -> None:
    first, _ = await drill.fleet.start(2, env=CUT)
    # work-0 to work-3 sleep 1, 2, 3 and 4 s; the deadline cuts the superstep after 2 s
    runs = await drill.begin_many(first, "crowd", {"n": 4, "sleep": 1.0}, 5, spread=0.1)
    await drill.until_started(runs, 5)  # plan and work-0 … work-3
    await drill.stop(first)
    await drill.until_over(runs)
    for run in runs:
        effects = drill.effects.of(run.run_id)
        assert sorted(finished(effects)) == ["join", "plan", "work-0", "work-1", "work-2", "work-3"], effects
        again = repeated(started(effects))
        assert "work-0" not in again
        assert "work-3" in again
        assert drill.row(run)["status"] == "success"


async def test_a_process_without_runs_leaves_at_once_and_reports_so(drill: Drill) -> None:
    [server] = await drill.fleet.start(env={"SLACKWATER_GRACE_SECONDS": "20"})
    took = await drill.stop(server)
    assert took < 5
    assert server.report()["runs"] == []


async def test_runs_that_arrive_during_the_drain_are_taken_by_others(drill: Drill) -> None:
    first, second = await drill.fleet.start(2, env={"SLACKWATER_GRACE_SECONDS": "10"})
    given = {"n": 2, "long_at": 1, "long": 3.5}
    slow = await drill.begin_many(first, "line", given, 4, spread=0.1)
    await drill.until_started(slow)
    first.sigterm()
    await asyncio.sleep(0.3)
    # WHEN the draining process, whose listener is still open, gets a run
    assert await first.answers() == 503
    late = await drill.begin_many(first, "line", {"n": 3, "sleep": 0.05}, 4, spread=0.2)
    assert await first.wait() == 0
    # THEN it has admitted it for another
    await drill.until_over()
    for run in late:
        effects = drill.check_run(run, steps(3))
        assert {effect.pid for effect in effects} == {second.pid}
    for run in slow:
        drill.check_run(run, steps(2))
