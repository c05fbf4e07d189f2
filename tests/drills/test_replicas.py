"""Several processes on one database: in a row, with wrong clocks, with another version of the project."""

from __future__ import annotations

import asyncio

import pytest

from tests.drills.drill import COUNT, RENAMED, Drill, batches, steps
from tests.support.effects import finished, repeated


@pytest.mark.parametrize("replicas", [2, 4])
async def test_a_rolling_deploy_of_all_replicas_hands_every_run_over(drill: Drill, replicas: int) -> None:
    for batch in batches():
        servers = await drill.fleet.start(replicas)
        runs = [
            run
            for server in servers
            for run in await drill.begin_many(
                server, "line", {"n": 60, "sleep": 0.15}, max(1, batch // replicas)
            )
        ]
        await drill.until_started(runs)
        # WHEN one after the other is stopped, with their successors in place
        successors = await drill.fleet.start(replicas)
        for server in servers:
            await drill.stop(server)
        # THEN each node of each run has finished once, wherever
        await drill.until_over(runs, 90)
        for run in runs:
            drill.check_run(run, steps(60))
        for server in successors:
            await drill.stop(server)


@pytest.mark.parametrize("skews", [("0", "-5"), ("5", "0")], ids=["the next is behind", "the first is ahead"])
async def test_clocks_that_differ_by_five_seconds_lose_no_head(drill: Drill, skews: tuple[str, str]) -> None:
    # GIVEN two processes whose wall clocks differ
    first, second = (drill.fleet.launch(env={"DRILL_CLOCK_SECONDS": skew}) for skew in skews)
    await asyncio.gather(first.until_ready(), second.until_ready())
    runs = await drill.begin_many(first, "line", {"n": 12, "sleep": 0.1}, COUNT)
    await drill.until_started(runs, 2)
    # WHEN the runs go from the one that is ahead to the one that is behind
    await drill.stop(first)
    await drill.until_over(runs)
    # THEN their threads' heads are those of the later process, and a later run goes on from them
    for run in runs:
        drill.check_run(run, steps(12))
        assert drill.supersteps(run) == list(range(-1, 13))
    again = await drill.begin(second, "line", {"n": 14, "sleep": 0}, thread_id=runs[0].thread_id)
    await drill.until_over([again])
    assert drill.thread(again)["values"]["log"] == steps(14)


async def test_a_deploy_that_renames_the_next_node_is_an_error_that_names_it(drill: Drill) -> None:
    for batch in batches():
        (first,) = await drill.fleet.start()
        given = {"long_at": "two", "long": 1.5}
        runs = await drill.begin_many(first, "deploy", given, batch, spread=0)
        await drill.until_started(runs, 2)
        # WHEN the runs are handed over before the third node, to a version that calls it something else
        await drill.stop(first)
        (renamed,) = await drill.fleet.start(project=RENAMED, tolerated=("Traceback",))
        await drill.until_over(runs)
        # THEN none of them is a success that left work out
        for run in runs:
            row = drill.row(run)
            assert row["status"] == "error", row
            assert row["error"]["error"] == "NodeMissing"
            assert "'three'" in row["error"]["message"]
            assert drill.thread(run)["status"] == "error"
        await drill.stop(renamed)


async def test_wishes_to_cancel_reach_handed_over_and_orphaned_runs(drill: Drill) -> None:
    first, second = await drill.fleet.start(2)
    runs = await drill.begin_many(first, "line", {"n": 40, "sleep": 0.15}, max(4, COUNT // 2))
    await drill.until_started(runs, 2)
    # WHEN their owner dies without a word, and another process is asked to cancel them
    await drill.stop(first, "SIGKILL")
    client = drill.client(second)
    half = len(runs) // 2
    await asyncio.gather(
        *(client.runs.cancel(run.thread_id, run.run_id) for run in runs[:half]),
        *(client.runs.cancel(run.thread_id, run.run_id, action="rollback") for run in runs[half:]),
    )
    # THEN they end when the lease is over: interrupted, or as if they had never been
    await drill.until_over(runs)
    for run in runs[:half]:
        assert drill.row(run)["status"] == "interrupted"
        assert drill.thread(run)["status"] == "interrupted"
        assert not repeated(finished(drill.effects.of(run.run_id)))
    for run in runs[half:]:
        gone = drill.watcher.query("select 1 from slackwater.runs where run_id = %s", (run.run_id,))
        left = drill.watcher.query("select 1 from checkpoints where thread_id = %s", (run.thread_id,))
        assert (gone, left) == ([], [])
        # The thread is read again when all that had expired is taken over.
        await drill.until(lambda run=run: drill.thread(run)["status"] == "idle")
