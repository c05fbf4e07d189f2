"""Five runs that wait for each other on one thread, while processes go: each starts once the one before it has ended."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise
from uuid import uuid4

import pytest

from tests.drills.drill import Drill, Run, steps
from tests.drills.test_sigkill import TAKE_OVER_SECONDS
from tests.support.effects import finished, repeated, started
from tests.support.server import ServerProcess

pytestmark = pytest.mark.drill

LENGTH, STEPS = 5, 3


async def _queue(drill: Drill, servers: list[ServerProcess]) -> list[Run]:
    """One chain. Each run takes the thread's counter `STEPS` further than the one before it."""
    await asyncio.sleep(random.uniform(0, 0.3))
    thread_id = str(uuid4())
    return [
        await drill.begin(
            random.choice(servers),
            "line",
            {"n": STEPS * (k + 1), "sleep": 0.08},
            thread_id=thread_id,
            multitask_strategy="enqueue",
        )
        for k in range(LENGTH)
    ]


def check_chain(drill: Drill, chain: list[Run], *, killed: bool) -> None:
    """Each run has done its part, after the one before it had ended."""
    log = steps(STEPS * LENGTH)
    assert drill.thread(chain[0])["values"]["log"] == log
    assert drill.thread(chain[0])["status"] == "idle"
    rows = [drill.row(run) for run in chain]
    assert [row["status"] for row in rows] == ["success"] * LENGTH
    for before, after in pairwise(rows):
        assert before["ended_at"] <= after["started_at"]
        assert before["fence"] < after["fence"]
    for k, run in enumerate(chain):
        part, effects = log[STEPS * k : STEPS * (k + 1)], drill.effects.of(run.run_id)
        assert sorted(set(finished(effects)), key=log.index) == part
        if not killed:
            assert finished(effects) == started(effects) == part
        else:
            # `async`: the superstep in flight, and the one before it, whose checkpoint may not have been stored.
            assert len(repeated(started(effects))) <= 2
    again = [run for run in chain if repeated(started(drill.effects.of(run.run_id)))]
    assert len(again) <= int(killed), "only what was running when its process was killed may run again"


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
async def test_runs_that_wait_for_each_other_keep_their_order(drill: Drill, how: str) -> None:
    async for batch, first, second in drill.pairs():
        # GIVEN chains that were begun on either process
        chains = await asyncio.gather(
            *(_queue(drill, [first, second]) for _ in range(max(1, batch // LENGTH)))
        )
        # WHEN one of them goes, somewhere in the middle
        await drill.until_started([chain[0] for chain in chains])
        await asyncio.sleep(random.uniform(0, 1.2))
        await drill.stop(first, how)
        # THEN the chains go on, in their order
        await drill.until_over(timeout=TAKE_OVER_SECONDS + 40)
        for chain in chains:
            check_chain(drill, chain, killed=how == "SIGKILL")
