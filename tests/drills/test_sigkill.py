"""A process that dies, or stalls, without a word: what may run again is bounded, and the dead write nothing."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Collection
from itertools import pairwise
from pathlib import Path

import pytest

from tests.drills.drill import Drill, Run, batches, steps
from tests.support.effects import Effect, finished, repeated, started
from tests.support.server import LEASE_SECONDS

pytestmark = pytest.mark.drill

TAKE_OVER_SECONDS = LEASE_SECONDS + 5
REPEATS = {"sync": 1, "async": 2}
"""How many supersteps a kill may cost. `exit` stores nothing before the end: it costs the attempt."""


def superstep(node: str) -> int:
    return int(node.removeprefix("step-"))


def check_killed(
    drill: Drill, run: Run, n: int, durability: str, kills: int = 1, late: Collection[Effect] = ()
) -> None:
    """The run succeeded, no superstep was left out, and those that ran again are the last before a kill.

    `late` is what a stale process said after it had lost the run.
    """
    row = drill.row(run)
    assert row["status"] == "success", (row, drill.fleet.logs())
    assert drill.thread(run)["values"]["log"] == steps(n)
    effects = [effect for effect in drill.effects.of(run.run_id) if effect not in late]
    begun = [(superstep(effect.node), effect.pid) for effect in effects if effect.phase == "start"]
    lives = [pid for i, (_, pid) in enumerate(begun) if i == 0 or begun[i - 1][1] != pid]
    assert len(lives) <= kills + 1
    for earlier, later in pairwise(lives):
        reached = max(step for step, pid in begun if pid == earlier)
        resumed = min(step for step, pid in begun if pid == later)
        assert resumed <= reached + 1, f"left out step {reached + 1}: {effects}"
        if durability != "exit":
            # The superstep in flight and, if its checkpoint is written in the background, the one before.
            assert resumed > reached - REPEATS[durability], f"from {reached} back to {resumed}: {effects}"
    for pid in lives:
        mine = [step for step, owner in begun if owner == pid]
        assert mine == list(range(mine[0], mine[-1] + 1)), f"one process repeated itself: {effects}"


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_a_killed_process_costs_no_more_than_the_durability_says(drill: Drill, durability: str) -> None:
    async for batch, first, _ in drill.pairs():
        # GIVEN short supersteps, so that the kill finds checkpoints being written
        given = {"n": 60, "sleep": 0.02}
        runs = await drill.begin_many(first, "line", given, batch, durability=durability)
        await drill.until_started(runs)
        await asyncio.sleep(random.uniform(0, 0.2))
        killed = time.monotonic()
        await drill.stop(first, "SIGKILL")
        # THEN within lease + 5 s somebody works on each of them, and they end
        await drill.until(
            lambda: (
                not drill.watcher.query("select 1 from slackwater.runs where lease_until < clock_timestamp()")
            ),
            TAKE_OVER_SECONDS,
            "all runs taken over",
        )
        assert time.monotonic() - killed < TAKE_OVER_SECONDS
        await drill.until_over(runs)
        for run in runs:
            check_killed(drill, run, 60, durability)


async def test_a_killed_process_costs_parallel_nodes_and_subgraphs_no_finished_superstep(
    drill: Drill,
) -> None:
    async for batch, first, _ in drill.pairs():
        crowds = await drill.begin_many(first, "crowd", {"n": 4, "sleep": 0.1}, batch // 2 or 1)
        nests = await drill.begin_many(first, "nest", {"sleep": 0.1}, batch // 2 or 1, durability="sync")
        await drill.until_started(crowds + nests, 2)
        await drill.stop(first, "SIGKILL")
        await drill.until_over()
        for run in crowds + nests:
            assert drill.row(run)["status"] == "success"
        for run in crowds:
            log = drill.thread(run)["values"]["log"]
            assert log == ["plan", "work-0", "work-1", "work-2", "work-3", "join"]
        for run in nests:
            # `sync`: nothing that finished before the superstep in flight runs again.
            assert len(repeated(started(drill.effects.of(run.run_id)))) <= 1


async def test_a_stalled_process_that_wakes_after_its_lease_writes_nothing(drill: Drill) -> None:
    async for batch, first, second in drill.pairs():
        runs = await drill.begin_many(first, "line", {"n": 30, "sleep": 0.15}, batch)
        await drill.until_started(runs, 2)
        # WHEN a process stands still for longer than its lease, and the others take its runs
        first.stop()
        await drill.until(
            lambda: (
                not drill.watcher.query(
                    "select 1 from slackwater.runs where status = 'running' and lease_until < clock_timestamp()"
                )
            ),
            TAKE_OVER_SECONDS,
            "all runs taken over",
        )
        await drill.until_started(runs, 4)
        woke = drill.effects.last()
        first.cont()
        # THEN it finds out at once and says so, goes no further, and what it writes is refused
        await drill.until_over(runs)
        lost = {line["run_id"] for line in first.log() if line.get("message") == "lease lost"}
        silent = [run for run in runs if _worked_on_by_both(drill, run, first.pid) and run.run_id not in lost]
        assert not silent, [
            (drill.row(run), drill.effects.of(run.run_id), first.about(run.run_id)) for run in silent
        ]
        # (a node that was about to say that it starts when the process was stopped says so now, but it is the last)
        late = [effect for effect in drill.effects.after(woke) if effect.pid == first.pid]
        starts = Counter(effect.run for effect in late if effect.phase == "start")
        assert not starts or max(starts.values()) == 1, starts
        for run in runs:
            check_killed(drill, run, 30, "async", late=late)
            assert drill.supersteps(run) == list(range(-1, 31))
            assert not drill.stale_events(run)
        # and it goes on to serve
        again = await drill.begin(first, "line", {"n": 2, "sleep": 0})
        await drill.until_over([again])
        drill.check_run(again, steps(2))
        assert second.alive
        await drill.stop(first)


def _worked_on_by_both(drill: Drill, run: Run, pid: int) -> bool:
    pids = {effect.pid for effect in drill.effects.of(run.run_id)}
    return pid in pids and len(pids) > 1


async def test_a_node_that_kills_its_process_once_costs_one_attempt(drill: Drill, tmp_path: Path) -> None:
    first, _ = await drill.fleet.start(2)
    given = {"n": 6, "sleep": 0.05, "kill_at": 4, "kill_once": str(tmp_path / "killed")}
    run = await drill.begin(first, "line", given, durability="sync")
    assert await first.wait() == -9
    await drill.until_over()
    check_killed(drill, run, 6, "sync")
    assert drill.row(run)["attempt"] == 2


async def test_a_run_that_kills_each_process_is_ended_after_three_and_the_others_survive(
    drill: Drill,
) -> None:
    # GIVEN more processes than such a run may take down, and innocent runs beside it
    servers = await drill.fleet.start(4)
    others = [
        run
        for server in servers
        for run in await drill.begin_many(server, "line", {"n": 40, "sleep": 0.25}, 3, spread=0.1)
    ]
    await drill.until_started(others)
    killer = await drill.begin(servers[0], "line", {"n": 3, "sleep": 0.05, "kill_at": 2}, durability="sync")
    await drill.until_over([killer], 60)
    # THEN it has ended with an error that names its node
    row = drill.row(killer)
    assert row["status"] == "error"
    assert row["error"]["error"] == "NoProgress"
    assert "step" in row["error"]["message"]
    assert drill.thread(killer)["status"] == "error"
    assert sum(not server.alive for server in servers) == 3
    # and all others go on to their end
    await drill.until_over(others, 60)
    for run in others:
        check_killed(drill, run, 40, "async", kills=3)


async def test_innocent_runs_that_die_with_a_killer_are_not_taken_for_one(drill: Drill) -> None:
    # GIVEN one process at a time, so that all runs are always together, and nodes longer than it lives, but shorter than a
    # lease, within which a suspect shows what it is: also where a cold process takes seconds to its first node
    env = {"SLACKWATER_LEASE_SECONDS": str(2 * LEASE_SECONDS)}
    [server] = await drill.fleet.start(env=env)
    innocent = await drill.begin_many(server, "line", {"n": 2, "sleep": 0.6}, 4, spread=0)
    killer = await drill.begin(server, "line", {"n": 3, "kill_at": 1}, after_seconds=0.3)
    while not _over(drill, [killer, *innocent]):
        if not server.alive:
            assert len(drill.fleet.servers) < 12
            [server] = await drill.fleet.start(env=env)
        await asyncio.sleep(0.05)
    assert drill.row(killer)["status"] == "error"
    await drill.until_over()
    for run in innocent:
        assert drill.row(run)["status"] == "success", drill.row(run)["error"]


def _over(drill: Drill, runs: list[Run]) -> bool:
    return all(drill.row(run)["status"] not in ("pending", "running") for run in runs)


async def test_killed_while_it_drains_a_process_has_already_given_away_what_it_could(drill: Drill) -> None:
    for batch in batches():
        first, _ = await drill.fleet.start(2)
        runs = await drill.begin_many(first, "line", {"n": 8, "sleep": 0.3}, batch)
        await drill.until_started(runs)
        first.sigterm()
        await asyncio.sleep(random.uniform(0, 0.3))
        first.sigkill()
        await first.wait()
        await drill.until_over(runs)
        for run in runs:
            check_killed(drill, run, 8, "async")
            if drill.row(run)["stopped"] == "drained":
                done = finished(drill.effects.of(run.run_id))
                assert not repeated(done)
