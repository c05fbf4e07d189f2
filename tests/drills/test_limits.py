"""What counts per run and not per process: the recursion limit, and what a rollback puts back."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from tests.drills.drill import COUNT, Drill, batches, outcomes, steps
from tests.support.effects import finished


@pytest.mark.parametrize("limit", [7, 8])
async def test_the_recursion_limit_counts_the_supersteps_of_all_attempts(drill: Drill, limit: int) -> None:
    # GIVEN runs of seven supersteps that may take seven, or with one more to spare
    begin = partial(drill.begin_many, graph="line", spread=0.4, config={"recursion_limit": limit})
    first, second = await drill.fleet.start(2)
    runs = await begin(first, given={"n": 7, "sleep": 0.12}, count=COUNT // 2 or 1)
    endless = await begin(first, given={"n": 1000, "sleep": 0.12}, count=COUNT // 2 or 1)
    await drill.until_started(runs + endless)
    # WHEN they are handed over somewhere
    second.tolerated = ("Traceback", "recursion")
    first.tolerated = ("Traceback", "recursion")
    await drill.stop(first)
    await drill.until_over()
    # THEN the limit is the one that they would have met in one process
    alone = await drill.begin(second, "line", {"n": 7, "sleep": 0}, config={"recursion_limit": limit})
    forever = await drill.begin(second, "line", {"n": 1000, "sleep": 0}, config={"recursion_limit": limit})
    await drill.until_over([alone, forever])
    assert {drill.row(run)["status"] for run in runs} == {drill.row(alone)["status"]}
    expected = finished(drill.effects.of(forever.run_id))
    for run in endless:
        row = drill.row(run)
        assert row["status"] == "error"
        assert row["error"]["error"] == "GraphRecursionError"
        assert finished(drill.effects.of(run.run_id)) == expected


@pytest.mark.parametrize("cut", [False, True], ids=["where it began", "after it was cut and taken over"])
async def test_a_rollback_of_a_resumed_question_asks_it_again(drill: Drill, cut: bool) -> None:
    sleep = 1.6 if cut else 0.5  # the node naps twice; the grace period leaves it one second
    for _ in batches():
        first, second = await drill.fleet.start(2, env={"SLACKWATER_GRACE_SECONDS": "2"})
        # GIVEN threads whose question has been answered by runs that are on their way
        asked = await asyncio.gather(*(drill.begin(second, "asking", {"sleep": sleep}) for _ in range(6)))
        await drill.until_over(asked)
        before = {
            run.thread_id: (drill.thread(run)["values"], drill.thread(run)["interrupts"]) for run in asked
        }
        answered = await asyncio.gather(
            *(
                drill.begin(first, "asking", None, thread_id=run.thread_id, command={"resume": "yes"})
                for run in asked
            )
        )
        await drill.until(lambda: drill.owned_by(first) == 6, what="all are being answered")  # noqa: B023
        await asyncio.sleep(0.3)
        # WHEN they are rolled back, where they run or after their process has gone
        if cut:
            await drill.stop(first)
            assert outcomes(first.report(), answered) == {"cancelled": 6}
            await drill.until(lambda: drill.owned_by(second) == 6, what="all are taken over")  # noqa: B023
        client = drill.client(second)
        await asyncio.gather(
            *(client.runs.cancel(run.thread_id, run.run_id, action="rollback") for run in answered)
        )
        await drill.until_over(answered)
        # THEN the threads ask what they asked, and take an answer
        for run in asked:
            await drill.until(
                lambda run=run: drill.thread(run)["status"] != "busy", what="its thread is read again"
            )
            thread = drill.thread(run)
            assert thread["status"] == "interrupted"
            assert (thread["values"], thread["interrupts"]) == before[run.thread_id]
        again = await asyncio.gather(
            *(
                drill.begin(second, "asking", None, thread_id=run.thread_id, command={"resume": "no"})
                for run in asked
            )
        )
        await drill.until_over(again)
        for run in again:
            assert drill.row(run)["status"] == "success"
            questions = [
                item["value"] for items in drill.thread(run)["interrupts"].values() for item in items
            ]
            assert questions == [{"question": "second?"}]
        await drill.stop(second)  # or it would take over what the next round hands over


async def test_a_run_that_is_cancelled_while_nobody_works_on_it_ends_at_once(drill: Drill) -> None:
    first, second = await drill.fleet.start(2, env={"SLACKWATER_MAX_CONCURRENT_RUNS": "20"})
    runs = await drill.begin_many(first, "line", {"n": 6, "sleep": 0.2}, 4)
    await drill.until_started(runs, 2)
    # GIVEN runs that are handed over, and nobody to take them
    second.stop()
    await drill.stop(first)
    third = drill.fleet.launch(env={"SLACKWATER_MAX_CONCURRENT_RUNS": "0"})
    await third.until_ready()
    assert {drill.row(run)["status"] for run in runs} == {"pending"}
    client = drill.client(third)
    await asyncio.gather(*(client.runs.cancel(run.thread_id, run.run_id) for run in runs[:2]))
    for run in runs[:2]:
        assert drill.row(run)["status"] == "interrupted"
        assert drill.thread(run)["status"] == "interrupted"
    # WHEN somebody comes back
    second.cont()
    await drill.until_over(runs)
    # THEN he takes only those that nobody has cancelled
    for run in runs[2:]:
        drill.check_run(run, steps(6))
    for run in runs[:2]:
        assert len(finished(drill.effects.of(run.run_id))) < 6
