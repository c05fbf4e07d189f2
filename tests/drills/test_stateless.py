"""Runs without a thread while processes go: each ends once, and goes with all that is its own, or stays, as it was asked."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.drills.drill import Drill, Run, batches, steps
from tests.drills.test_sigkill import check_killed
from tests.support.server import ServerProcess

pytestmark = pytest.mark.drill

LEFT = """
select r.thread_id,
  exists (select 1 from slackwater.runs x where x.thread_id = r.thread_id) as runs,
  exists (select 1 from slackwater.threads x where x.thread_id = r.thread_id) as threads,
  exists (select 1 from slackwater.run_events x where x.thread_id = r.thread_id) as events,
  exists (select 1 from checkpoints x where x.thread_id = r.thread_id::text) as checkpoints,
  exists (select 1 from checkpoint_blobs x where x.thread_id = r.thread_id::text) as blobs
from unnest(%s::uuid[]) as r(thread_id)"""


async def _begin(drill: Drill, server: ServerProcess, on_completion: str) -> Run:
    await asyncio.sleep(random.uniform(0, 0.5))
    row = await drill.client(server).runs.create(
        None, "line", input={"n": 6, "sleep": 0.1}, on_completion=on_completion
    )
    run = Run(row["run_id"], row["thread_id"], "line")
    drill.runs.append(run)
    return run


def left(drill: Drill, runs: list[Run], *, but: str = "") -> list[set[bool]]:
    """For each run whether there is anything of it, `but` for one kind: both answers mean that a part is gone."""
    rows = drill.watcher.query(LEFT, ([run.thread_id for run in runs],))
    return [{there for name, there in row.items() if name not in ("thread_id", but)} for row in rows]


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
async def test_a_run_without_a_thread_goes_whole_once_it_has_ended_or_stays(drill: Drill, how: str) -> None:
    for batch in batches():
        first, second = await drill.fleet.start(2)
        half = max(1, batch // 2)
        begun = await asyncio.gather(
            *(_begin(drill, first, wish) for _ in range(half) for wish in ("delete", "keep"))
        )
        going, staying = list(begun[::2]), list(begun[1::2])
        # WHEN their process goes in the middle of them
        await drill.until_started(begun)
        await asyncio.sleep(random.uniform(0, 0.4))
        await drill.stop(first, how)
        # THEN they end
        await drill.until_over(begun)
        for run in begun:
            check_killed(drill, run, 6, "async") if how == "SIGKILL" else drill.check_run(run, steps(6))
        # WHEN the next process goes in the middle of their deletion
        third = drill.fleet.launch()
        await third.until_ready()
        drill.watcher.query(
            "update slackwater.runs set delete_at = clock_timestamp() where delete_at is not null"
        )
        await asyncio.sleep(random.uniform(0, 0.5))
        await drill.stop(second, how)
        # THEN each of them is whole, or gone, but for its events, which go before: there may be any number of them
        assert all(len(there) == 1 for there in left(drill, going, but="events"))
        # In the end those that were to go have gone
        await drill.until(lambda runs=going: set().union(*left(drill, runs)) == {False}, what="all gone")
        assert set().union(*left(drill, staying)) == {True}
        for run in staying:
            state = await drill.client(third).threads.get_state(run.thread_id)
            assert state["values"]["log"] == steps(6)
        await drill.stop(third)
