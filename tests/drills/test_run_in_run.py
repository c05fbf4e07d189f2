"""A run whose node waits for a run that it has started itself, while their process is stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.drills.drill import Drill, Run, steps
from tests.support.effects import finished
from tests.support.server import ServerProcess

pytestmark = pytest.mark.drill

STEPS = 6


async def begin(drill: Drill, server: ServerProcess, graph: str, how: str, **inner: Any) -> tuple[Run, Run]:
    """A run, and the one that its node has started and waits for."""
    outer = await drill.begin(server, graph, {"how": how, "inner": {"n": STEPS, "sleep": 0.2, **inner}})
    await drill.until(lambda: drill.begun("line"), what="the run inside has begun")
    (row,) = drill.watcher.query(
        "select run_id::text, thread_id::text, owner from slackwater.runs where graph_id = 'line'"
    )
    assert row["owner"] == drill.row(outer)["owner"] == "local"
    inside = Run(row["run_id"], row["thread_id"], "line")
    await drill.until_started([inside])
    return outer, inside


def check(drill: Drill, outer: Run, inside: Run) -> None:
    """Both have come to their end, and each of their nodes once."""
    drill.check_run(outer, ["before", "ask", "after"], ["before", f"ask: {STEPS}", "after"])
    assert finished(drill.effects.of(inside.run_id)) == steps(STEPS)
    assert drill.admitted("line") == 1


@pytest.mark.parametrize(
    ("graph", "how"), [("starting", "wait"), ("starting", "stream"), ("sync_starting", "wait")]
)
async def test_the_run_inside_is_handed_over_and_the_node_waits_for_it_still(
    drill: Drill, graph: str, how: str
) -> None:
    first, _ = await drill.fleet.start(2, env={"SLACKWATER_GRACE_SECONDS": "40"})
    outer, inside = await begin(drill, first, graph, how)
    # WHEN their process is stopped, in no hurry
    await drill.stop(first, timeout=40)
    # THEN another one finishes the run inside, and the node that waits for it ends here
    outcomes = {run["run_id"]: run["outcome"] for run in first.report()["runs"]}
    assert outcomes == {inside.run_id: "drained", outer.run_id: "drained"}
    await drill.until_over([outer, inside])
    check(drill, outer, inside)
    assert [effect.node for effect in drill.effects.of(outer.run_id) if effect.phase == "start"].count(
        "ask"
    ) == 1


@pytest.mark.parametrize(("graph", "how"), [("starting", "stream"), ("sync_starting", "wait")])
async def test_a_node_that_has_waited_too_long_is_cut_and_waits_elsewhere_for_the_same_run(
    drill: Drill, graph: str, how: str, tmp_path: Path
) -> None:
    first, _ = await drill.fleet.start(2)
    gate = tmp_path / "gate"
    outer, inside = await begin(drill, first, graph, how, gate=str(gate))
    # WHEN their process is stopped while neither can come to a boundary
    await drill.stop(first)
    # THEN both are cut
    outcomes = {run["run_id"]: run["outcome"] for run in first.report()["runs"]}
    assert outcomes == {inside.run_id: "cancelled", outer.run_id: "cancelled"}
    # and go on elsewhere
    gate.touch()
    await drill.until_over([outer, inside])
    check(drill, outer, inside)
