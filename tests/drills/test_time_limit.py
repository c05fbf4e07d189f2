"""Runs that have had their time while processes go: each ends once, as `timeout`, with what it has come to."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.drills.drill import Drill, steps
from tests.support.effects import finished, repeated

pytestmark = pytest.mark.drill

ERROR = {"error": "TimeoutError", "message": ""}
NODES = 200


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
async def test_a_run_that_has_had_its_time_ends_once_whoever_has_it(drill: Drill, how: str) -> None:
    # Less than a lease: of those that were killed, some have had their time, and some start again.
    limit = {"SLACKWATER_RUN_TIMEOUT_SECONDS": "3"}
    async for batch, first, _ in drill.pairs(env=limit):
        # GIVEN runs that never end by themselves
        runs = await drill.begin_many(first, "line", {"n": NODES, "sleep": 0.1}, batch)
        await drill.until_started(runs)
        # WHEN their process goes, before their time is over or just then
        await asyncio.sleep(random.uniform(0, 3))
        await drill.stop(first, how)
        # THEN it is over all the same
        await drill.until_over(runs)
        for run in runs:
            row, thread = drill.row(run), drill.thread(run)
            assert (row["status"], row["error"]) == ("timeout", ERROR), drill.fleet.logs()
            assert (thread["status"], thread["error"]) == ("error", ERROR)
            log = (thread["values"] or {}).get("log", [])
            assert log == steps(NODES)[: len(log)]
            assert len(log) < NODES
            told = drill.watcher.query(
                "select distinct event from slackwater.run_events where run_id = %s", (run.run_id,)
            )
            assert "error" not in {event["event"] for event in told}
            if how == "SIGTERM":
                assert not repeated(finished(drill.effects.of(run.run_id)))
