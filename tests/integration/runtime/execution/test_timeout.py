"""A run has so much time, in all its attempts together; then it ends as `timeout`, whoever works on it, or nobody."""

from __future__ import annotations

import asyncio

import pytest
from helm import Helm
from rig import Fleet, settle_alone

from slackwater.runtime.execution.attempt import Attempt
from slackwater.runtime.queue.cancel import CancelAction

ERROR = {"error": "TimeoutError", "message": ""}
SOON = 2.0
LONG = 1000.0


async def reached(hold: object) -> None:
    await asyncio.wait_for(hold.reached.wait(), 15)  # type: ignore[attr-defined]


async def test_a_run_that_takes_too_long_ends_where_it_is_and_keeps_what_it_has(
    fleet: Fleet, helm: Helm
) -> None:
    process = await fleet.start(run_timeout_seconds=SOON)
    helm.hold("c")
    run = (await process.admit("line")).row
    after = (await process.admit("line", thread_id=run["thread_id"])).row
    reader = asyncio.create_task(process.read(run["run_id"]))
    row = await fleet.ended(run["run_id"])
    assert (row["status"], row["error"], row["holds_thread"], row["worker"]) == (
        "timeout",
        ERROR,
        False,
        None,
    )
    # Its readers are not told of an error, but get all that there was.
    events = await reader
    assert {event.name for event in events} == {"metadata", "values", "updates"}
    assert str(events[-1].id) == row["last_event"]
    # AND the thread goes on with its next run, which has a time of its own
    helm.hooks.clear()
    await process.claim()
    assert (await fleet.ended(after["run_id"]))["status"] == "success"
    assert helm.done_by(run["run_id"]) == ["a", "b"]


async def test_its_thread_shows_the_error_and_the_values_until_then(fleet: Fleet, helm: Helm) -> None:
    process = await fleet.start(run_timeout_seconds=LONG)
    hold = helm.hold("c")
    run = (await process.admit("line")).row
    await reached(hold)
    process.runtime.worker.live[run["run_id"]].timeout_at = 0.0
    await fleet.ended(run["run_id"])
    thread = await fleet.thread(run["thread_id"])
    assert (thread["status"], thread["error"], thread["values"]) == ("error", ERROR, {"log": ["a", "b"]})


async def test_a_sync_node_is_left_behind(fleet: Fleet, helm: Helm) -> None:
    process = await fleet.start(run_timeout_seconds=LONG)
    hold = helm.hold_sync("s")
    run = (await process.admit("sync_line")).row
    assert await asyncio.to_thread(hold.reached.wait, 15)
    process.runtime.worker.live[run["run_id"]].timeout_at = 0.0
    assert (await fleet.ended(run["run_id"]))["status"] == "timeout"
    hold.go.set()


async def test_attempts_count_together_and_one_without_time_starts_no_node(fleet: Fleet, helm: Helm) -> None:
    # GIVEN a run that has been handed over
    first = await fleet.start(run_timeout_seconds=LONG)
    hold = helm.hold("b")
    run = (await first.admit("line")).row
    await reached(hold)
    asyncio.get_running_loop().call_later(0.05, hold.let_go)
    await first.stop()
    worked = (await fleet.row(run["run_id"]))["worked_seconds"]
    assert worked > 0
    # WHEN another process goes on with it, and it has had its time by now
    second = await fleet.start(run_timeout_seconds=worked)
    await second.claim()
    # THEN it ends
    row = await fleet.ended(run["run_id"])
    assert (row["status"], row["error"], row["handovers"]) == ("timeout", ERROR, 1)
    assert helm.begun_by(run["run_id"]) == ["a", "b"]
    thread = await fleet.thread(run["thread_id"])
    assert (thread["status"], thread["values"]) == ("error", {"log": ["a", "b"]})


@pytest.mark.parametrize("overdue", [True, False])
async def test_whoever_takes_over_from_a_dead_process_ends_it(
    fleet: Fleet, helm: Helm, overdue: bool
) -> None:
    dead, heir = (
        await fleet.start(linked=True),
        await fleet.start(run_timeout_seconds=LONG, max_concurrent_runs=0),
    )
    hold = helm.hold("c")
    run = (await dead.admit("line", webhook="http://127.0.0.1:9/hook")).row
    await reached(hold)
    await fleet.until(lambda: _has_values(fleet, run["thread_id"]))
    await dead.die()
    # WHEN its lease is over, until when it has had the run
    await fleet.database.execute(
        "update slackwater.runs set worked_seconds = %s where run_id = %s",
        [LONG if overdue else LONG - 100, run["run_id"]],
    )
    await fleet.expire(run["run_id"])
    await heir.runtime.sweep()
    # THEN nobody starts it again, if it has had its time
    row = await fleet.row(run["run_id"])
    told = await fleet.database.fetch("select run ->> 'status' as status from slackwater.webhooks")
    if not overdue:
        assert (row["status"], row["stopped"], told) == ("pending", "lost", [])
        return
    assert (row["status"], row["error"], row["ready"]) == ("timeout", ERROR, False)
    assert told == [{"status": "timeout"}]
    thread = await fleet.thread(run["thread_id"])
    assert (thread["status"], thread["error"], thread["values"]) == ("error", ERROR, {"log": ["a", "b"]})
    events = await heir.read(run["run_id"])
    assert "error" not in {event.name for event in events}
    assert str(events[-1].id) == row["last_event"]


async def _has_values(fleet: Fleet, thread_id: object) -> bool:
    """Whether both finished nodes are stored."""
    rows = await fleet.database.fetch(
        "select count(*) as n from checkpoints where thread_id = %s", [str(thread_id)]
    )
    return bool(rows[0]["n"] >= 4)


async def test_two_who_find_it_dead_end_it_once(fleet: Fleet, helm: Helm) -> None:
    dead = await fleet.start(linked=True)
    heirs = [await fleet.start(run_timeout_seconds=LONG) for _ in range(3)]
    hold = helm.hold("c")
    run = (await dead.admit("line")).row
    await reached(hold)
    await dead.die()
    await fleet.database.execute("update slackwater.runs set worked_seconds = %s", [LONG])
    await fleet.expire(run["run_id"])
    assert sorted(await asyncio.gather(*(heir.runtime.sweep() for heir in heirs))) == [0, 0, 1]
    assert (await fleet.row(run["run_id"]))["status"] == "timeout"


async def test_a_wish_that_came_before_is_the_one_that_counts(fleet: Fleet, helm: Helm) -> None:
    process = await fleet.start(run_timeout_seconds=LONG)
    hold = helm.hold("c")
    run = (await process.admit("line")).row
    await reached(hold)
    (attempt,) = process.runtime.worker.live.values()
    await process.cancel(run["thread_id"], run["run_id"], action=CancelAction.INTERRUPT)
    attempt.timeout_at = 0.0
    assert (await fleet.ended(run["run_id"]))["status"] == "interrupted"


async def test_nothing_ends_a_run_that_has_ended_by_itself(
    fleet: Fleet, helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle_alone(monkeypatch)
    process = await fleet.start(run_timeout_seconds=LONG)
    hold = helm.hold("d")
    run = (await process.admit("line")).row
    await reached(hold)
    (attempt,) = process.runtime.worker.live.values()
    lock = asyncio.Event()

    async def settle_later() -> None:
        async with process.runtime.settling:
            await lock.wait()

    # GIVEN an end that cannot be written yet
    holders = [asyncio.create_task(settle_later()) for _ in range(4)]
    hold.let_go()
    await fleet.until(lambda: _done(attempt))
    # WHEN its time comes now
    attempt.timeout_at = 0.0
    await asyncio.sleep(0.6)  # two looks of the watch
    lock.set()
    await asyncio.gather(*holders)
    # THEN
    assert (await fleet.ended(run["run_id"]))["status"] == "success"


async def _done(attempt: Attempt) -> bool:
    return attempt.outcome is not None


async def test_without_a_limit_there_is_none(fleet: Fleet, helm: Helm) -> None:
    process = await fleet.start(run_timeout_seconds=0)
    hold = helm.hold("b")
    run = (await process.admit("line")).row
    await reached(hold)
    (attempt,) = process.runtime.worker.live.values()
    assert attempt.timeout_at == float("inf")
    hold.let_go()
    assert (await fleet.ended(run["run_id"]))["status"] == "success"
