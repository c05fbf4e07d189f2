"""What holds a process up, and whose fault it is not: a blocked event loop, a locked table, the death of a busy process."""

from __future__ import annotations

import asyncio
import time
from uuid import uuid4

import psycopg
import pytest

from tests.drills.drill import Drill, steps
from tests.support.server import LEASE_SECONDS

pytestmark = pytest.mark.drill

ORPHANS = 600


async def test_a_node_that_blocks_the_event_loop_for_three_leases_costs_nobody_a_lease(drill: Drill) -> None:
    first, second = await drill.fleet.start(2)
    neighbours = await drill.begin_many(first, "line", {"n": 6, "sleep": 0.4}, 5)
    long = await drill.begin(first, "line", {"n": 2, "sleep": 8.0})
    await drill.until_started([*neighbours, long])
    # WHEN one node computes for longer than two leases, where it stops everything
    blocker = await drill.begin(first, "blocking_line", {"n": 1, "sleep": 2.5 * LEASE_SECONDS})
    await drill.until_over(timeout=90)
    # THEN everybody has gone on where they were
    for run in neighbours:
        drill.check_run(run, steps(6))
    drill.check_run(long, steps(2))
    drill.check_run(blocker, steps(1))
    rows = [drill.row(run) for run in drill.runs]
    assert {(row["attempt"], row["handovers"], row["stalls"]) for row in rows} == {(1, 0, 0)}
    assert not second.events("run.taken_over")
    # (on a busy machine it may have been late at another time, too: then no run is to blame)
    told = [line for line in first.events("worker.loop.blocked") if line["run_id"]]
    assert {(line["run_id"], line["node"]) for line in told} == {(blocker.run_id, "step")}


async def test_a_table_that_is_locked_for_two_leases_costs_nobody_a_lease(drill: Drill) -> None:
    (first,) = await drill.fleet.start(1)
    runs = await drill.begin_many(first, "line", {"n": 4, "sleep": 2.0}, 10)
    await drill.until_started(runs)
    async with await psycopg.AsyncConnection.connect(drill.watcher.uri) as somebody:
        await somebody.execute("lock table slackwater.runs in access exclusive mode")
        await asyncio.sleep(2 * LEASE_SECONDS)
    await drill.until_over(timeout=60)
    for run in runs:
        drill.check_run(run, steps(4))
        assert drill.row(run)["attempt"] == 1


async def test_six_hundred_orphans_are_requeued_within_seconds(drill: Drill) -> None:
    first, second = await drill.fleet.start(2, env={"SLACKWATER_MAX_CONCURRENT_RUNS": "0"})
    # GIVEN what a process leaves behind that worked on six hundred runs
    bodies = [{"assistant_id": "line", "input": {"n": 1}, "on_completion": "keep"} for _ in range(100)]
    for _ in range(ORPHANS // 100):
        await drill.client(first).runs.create_batch(bodies)  # type: ignore[arg-type]
    worker = f"gone:1:{uuid4().hex[:8]}"
    drill.watcher.query(
        "update slackwater.runs set status = 'running', ready = false, holds_thread = true, worker = %s, fence = 1, attempt = 1, "
        "claimed_at = clock_timestamp(), lease_until = clock_timestamp()",
        (worker,),
    )
    since = time.monotonic()

    def left() -> int:
        (row,) = drill.watcher.query("select count(*) as n from slackwater.runs where status = 'running'")
        return int(row["n"])

    await drill.until(lambda: not left(), 30, "all are requeued")
    assert time.monotonic() - since < LEASE_SECONDS + 5

    def taken() -> list[str]:
        return [line["run_id"] for server in (first, second) for line in server.events("run.taken_over")]

    await drill.until(lambda: len(taken()) >= ORPHANS, 10, "each of them is in a log")
    assert len(taken()) == len(set(taken())) == ORPHANS
    drill.watcher.query("delete from slackwater.runs")
    drill.watcher.query("delete from slackwater.threads")
