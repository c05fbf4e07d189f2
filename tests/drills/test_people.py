"""A person in the middle: approvals, questions and commands, cut at every point."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from tests.drills.drill import Drill, Run, batches
from tests.support.effects import finished, repeated, started

pytestmark = pytest.mark.drill

SLEEP = 0.12
HOW = ["SIGTERM", "SIGKILL"]


Start = Callable[[], Coroutine[Any, Any, Run]]


async def _begin_at_all_points(nodes: int, starts: Sequence[Start]) -> list[Run]:
    """Start runs one after another, so that one signal finds them at every point of their way."""
    runs = []
    for start in starts:
        runs.append(asyncio.create_task(start()))
        await asyncio.sleep(nodes * SLEEP / len(starts))
    return list(await asyncio.gather(*runs))


def _check_nodes(drill: Drill, runs: list[Run], nodes: list[str], how: str) -> None:
    """Over all runs of a thread each node finished; after SIGTERM exactly once, after SIGKILL at most once more."""
    effects = [effect for run in runs for effect in drill.effects.of(run.run_id)]
    done = finished(effects)
    if how == "SIGTERM":
        assert done == nodes, effects
        assert not repeated(started(effects)), effects
    else:
        assert sorted(set(done)) == sorted(nodes), effects
        assert max(done.count(node) for node in nodes) <= 2, effects


@pytest.mark.parametrize("how", HOW)
async def test_an_approval_is_never_stepped_over_wherever_the_run_is_cut(drill: Drill, how: str) -> None:
    for batch in batches():
        first, second = await drill.fleet.start(2)
        # GIVEN runs that stop before `publish`, to ask a person
        draft = partial(drill.begin, first, "approve", {"sleep": SLEEP}, interrupt_before=["publish"])
        # WHEN the process is stopped while they are somewhere between their start and their approval
        drafts = await _begin_at_all_points(3, [draft] * batch)
        await drill.stop(first, how)
        await drill.until_over(drafts)
        # THEN each waits for its approval
        for run in drafts:
            assert drill.row(run)["status"] == "success"
            thread = drill.thread(run)
            assert thread["status"] == "interrupted"
            assert thread["values"]["log"] == ["draft", "review"]
            assert (await drill.client(second).threads.get_state(run.thread_id))["next"] == ["publish"]
            assert "publish" not in started(drill.effects.of(run.run_id))
            _check_nodes(drill, [run], ["draft", "review"], how)

        # AND WHEN it is given, and another process is stopped somewhere on the rest of the way
        third = drill.fleet.launch()

        await third.until_ready()
        approved = await _begin_at_all_points(
            3, [partial(drill.begin, second, "approve", None, thread_id=run.thread_id) for run in drafts]
        )
        await drill.stop(second, how)
        await drill.until_over(approved)
        # THEN the rest was done
        for run, before in zip(approved, drafts, strict=True):
            assert drill.row(run)["status"] == "success"
            assert drill.thread(run)["values"]["log"] == ["draft", "review", "publish", "report"]
            assert drill.thread(run)["status"] == "idle"
            _check_nodes(drill, [before, run], ["draft", "review", "publish", "report"], how)


@pytest.mark.parametrize("how", HOW)
async def test_two_questions_of_one_node_get_their_own_answers_wherever_the_run_is_cut(
    drill: Drill, how: str
) -> None:
    servers = await drill.fleet.start(2)
    threads = [str(uuid4()) for _ in range(12)]

    async def stage(given: Any, nodes: int, **options: Any) -> list[Run]:
        """Start a run on each thread, stop the server meanwhile, let another finish."""
        first = servers.pop(0)
        servers.append(drill.fleet.launch())

        begin = partial(drill.begin, first, "asking", given, **options)
        runs = await _begin_at_all_points(nodes, [partial(begin, thread_id=thread) for thread in threads])
        await drill.stop(first, how)
        await drill.until_over(runs)
        await servers[-1].until_ready()
        return runs

    asked = await stage({"sleep": SLEEP}, 2)
    for run in asked:
        assert _questions(drill, run) == ["first?"]
    again = await stage(None, 2, command={"resume": "yes"})
    for run in again:
        assert drill.row(run)["status"] == "success"
        assert _questions(drill, run) == ["second?"], drill.thread(run)
    over = await stage(None, 3, command={"resume": "no"})
    for run, before, earlier in zip(over, again, asked, strict=True):
        assert drill.row(run)["status"] == "success"
        assert drill.thread(run)["values"]["log"] == ["draft", "yes+no", "report"]
        assert drill.thread(run)["status"] == "idle"
        if how == "SIGTERM":
            effects = [e for r in (earlier, before, run) for e in drill.effects.of(r.run_id)]
            assert finished(effects) == ["draft", "ask", "report"]


def _questions(drill: Drill, run: Run) -> list[str]:
    thread = drill.thread(run)
    assert thread["status"] == "interrupted", thread
    return [item["value"]["question"] for items in thread["interrupts"].values() for item in items]


@pytest.mark.parametrize("how", HOW)
async def test_a_command_updates_and_goes_once_wherever_the_run_is_cut(drill: Drill, how: str) -> None:
    async for batch, first, second in drill.pairs():
        # GIVEN threads that are over, and threads that wait for an approval
        over = [drill.begin(second, "approve", {"sleep": 0}) for _ in range(batch // 2 or 1)]
        waiting = [
            drill.begin(second, "approve", {"sleep": 0}, interrupt_before=["publish"])
            for _ in range(batch // 2 or 1)
        ]
        drafts = await asyncio.gather(*over, *waiting)
        await drill.until_over(drafts)
        # WHEN they are sent elsewhere, with a change to their state, and the process is stopped meanwhile
        command = {"update": {"log": ["changed"], "sleep": SLEEP}, "goto": "review"}
        begin = partial(drill.begin, first, "approve", None, command=command)
        sent = await _begin_at_all_points(3, [partial(begin, thread_id=run.thread_id) for run in drafts])
        await drill.stop(first, how)
        await drill.until_over(sent)
        # THEN the change was made once, and they went there (what was waiting goes on as well)
        for number, run in enumerate(sent):
            assert drill.row(run)["status"] == "success", drill.row(run)["error"]
            log = ["draft", "review", "changed", "publish", "review", "publish", "report", "report"]
            if number < len(over):
                log = ["draft", "review", "publish", "report", "changed", "review", "publish", "report"]
            assert drill.thread(run)["values"]["log"] == log
            if how == "SIGTERM":
                done = finished(drill.effects.of(run.run_id))
                assert sorted(done) == sorted(log[log.index("changed") + 1 :])
