"""What is counted where it happens: take-overs, lost leases, runs that are stuck."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from helm import Helm
from rig import CUT, Fleet, Process

from slackwater.telemetry.metrics import Metric, recorder


@pytest.fixture
def gained() -> Callable[[], dict[Metric, int]]:
    """What has been counted since the test began."""
    before = dict(recorder.totals)
    return lambda: {
        metric: n - before[metric] for metric, n in recorder.totals.items() if n != before[metric]
    }


async def test_a_run_counts_as_started_once_however_many_processes_it_takes(
    fleet: Fleet, helm: Helm, gained: Callable[[], dict[Metric, int]]
) -> None:
    first, second = await fleet.start(), await fleet.start()
    hold = helm.hold("b")
    run = await first.admit("line")
    await asyncio.wait_for(hold.reached.wait(), 15)
    # GIVEN a node that is cut, WHEN another process goes on
    await first.stop(**CUT)
    assert gained() == {Metric.RUNS_STARTED: 1, Metric.RUNS_HANDED_OVER: 1}
    helm.reset()
    await second.claim()
    await second.read(run.row["run_id"])
    await fleet.idle(second)
    # THEN it was handed over, not drained, and has been started and finished once
    assert gained() == {Metric.RUNS_STARTED: 1, Metric.RUNS_HANDED_OVER: 1, Metric.RUNS_FINISHED: 1}


async def test_a_process_that_is_gone_or_has_lost_its_lease_is_counted(
    fleet: Fleet, process: Process, helm: Helm, gained: Callable[[], dict[Metric, int]]
) -> None:
    hold = helm.hold("b")
    run = await process.admit("line")
    await asyncio.wait_for(hold.reached.wait(), 15)
    other = await fleet.start()
    await fleet.expire(run.row["run_id"])
    assert await other.runtime.sweep() == 1
    await process.runtime.worker.renew_now()
    await process.runtime.worker.idle(asyncio.get_running_loop().time() + 5)
    found = gained()
    assert (found[Metric.RUNS_TAKEN_OVER], found[Metric.LEASE_LOST]) == (1, 1)
    assert Metric.RUNS_HANDED_OVER not in found


async def test_the_sweep_says_how_many_runs_are_stuck(fleet: Fleet, helm: Helm) -> None:
    process = await fleet.start(linked=True)
    waiting = await fleet.start(max_concurrent_runs=0)
    await waiting.runtime.sweep()
    assert recorder.levels[Metric.RUNS_STUCK] == 0
    helm.hold("b")
    # GIVEN one run with a lease that has expired for long, one with a lease that has just expired, and nobody who works
    for seconds in (6, 2):
        run = await process.admit("line")
        await fleet.database.execute(
            "update slackwater.runs set lease_until = clock_timestamp() - make_interval(secs => %s) where run_id = %s",
            (seconds, run.row["run_id"]),
        )
    await process.die()
    await waiting.runtime.sweep()
    assert recorder.levels[Metric.RUNS_STUCK] == 1
    # THEN the sweep has seen to it
    await waiting.runtime.sweep()
    assert recorder.levels[Metric.RUNS_STUCK] == 0
    # GIVEN runs that are ready: one has waited for a moment, one for two minutes, one is not due yet
    for seconds in (1, 120, -120):
        run = await waiting.admit("line")
        await fleet.database.execute(
            "update slackwater.runs set available_at = clock_timestamp() - make_interval(secs => %s) where run_id = %s",
            (seconds, run.row["run_id"]),
        )
    await waiting.runtime.sweep()
    assert recorder.levels[Metric.RUNS_STUCK] == 1
