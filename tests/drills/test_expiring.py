"""Threads whose time is over while processes go: nothing is taken from under a run, and then all of it goes at once."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.drills.drill import Drill, Run, steps
from tests.drills.test_stateless import left
from tests.support.server import ServerProcess

pytestmark = pytest.mark.drill

SOON = 0.005
"""Minutes: over before the run is, and before anybody takes it over."""


async def _begin(drill: Drill, server: ServerProcess, ttl: float) -> Run:
    thread = await drill.client(server).threads.create(ttl={"ttl": ttl, "strategy": "delete"})
    return await drill.begin(
        server, "line", {"n": 10, "sleep": 0.1}, spread=0.5, thread_id=thread["thread_id"]
    )


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
async def test_a_thread_whose_time_is_over_stays_for_its_run_and_goes_whole(drill: Drill, how: str) -> None:
    async for batch, first, _ in drill.pairs():
        # GIVEN threads that have an hour, and whose runs are in flight
        runs = await asyncio.gather(*(_begin(drill, first, 60) for _ in range(batch)))
        await drill.until_started(runs)
        # WHEN that was a moment, and their process goes
        ids = [run.thread_id for run in runs]
        drill.watcher.query(
            "update slackwater.threads set ttl_minutes = %s, updated_at = clock_timestamp() - interval '1 minute' "
            "where thread_id = any(%s::uuid[])",
            (SOON, ids),
        )
        await asyncio.sleep(random.uniform(0, 0.4))
        await drill.stop(first, how)
        # THEN the runs end, as the log of their effects has it, and only then do the threads go
        await drill.until(
            lambda ids=ids: (
                not drill.watcher.query(
                    "select 1 from slackwater.threads where thread_id = any(%s::uuid[])", (ids,)
                )
            ),
            40,
            "all threads gone",
        )
        assert set().union(*left(drill, runs)) == {False}
        ended = drill.watcher.query(
            "select run_id::text, status from ends where run_id = any(%s::uuid[])",
            ([run.run_id for run in runs],),
        )
        assert sorted(row["run_id"] for row in ended) == sorted(run.run_id for run in runs)
        assert {row["status"] for row in ended} == {"success"}
        for run in runs:
            assert steps(10) == sorted(
                {e.node for e in drill.effects.of(run.run_id) if e.phase == "done"}, key=steps(10).index
            )
