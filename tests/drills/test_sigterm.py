"""SIGTERM: nothing is lost, nothing that was finished runs again, and another process goes on."""

from __future__ import annotations

import pytest
from drills.drill import Drill, batches, outcomes, steps

pytestmark = pytest.mark.drill


async def test_runs_stopped_at_random_moments_go_on_elsewhere_and_each_node_runs_once(drill: Drill) -> None:
    [first] = await drill.fleet.start()
    for batch in batches():
        # GIVEN runs in flight, each at a moment of its own
        runs = await drill.begin_many(first, "line", {"n": 12, "sleep": 0.1}, batch)
        await drill.until_started(runs)
        second = drill.fleet.launch()
        await second.until_ready()
        # WHEN their process is asked to stop
        first.sigterm()
        assert await first.wait() == 0
        # THEN all of them were handed over, and the other process finishes them
        report = first.report()
        assert report["reason"] == "SIGTERM"
        assert outcomes(report, runs)["left"] == 0
        await drill.until_over(runs)
        for run in runs:
            drill.check_run(run, steps(12))
        first = second
