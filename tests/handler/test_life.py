"""The life of an execution environment: opened once, awake until its runs are safe, frozen, thawed, taken away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slackwater.emulator.environment import PendingInvocation
from tests.handler.scene import Scene, asked, once_each

GONE_MS = 450.0
"""Lambda leaves an environment 500 ms after SIGTERM. Whoever asks for that has to be prompt."""


async def test_lifespan_and_pool_are_opened_once_for_many_invocations(scene: Scene) -> None:
    environment = await scene.environment()
    await scene.ask(environment, "POST", "/threads", {})
    opened = sessions(scene)
    for _ in range(50):
        await scene.ask(environment, "POST", "/threads/search", {})
    # THEN no session has been opened since: a lifespan for each invocation would have opened a pool for each
    assert len(opened) > 0
    assert sessions(scene) <= opened


async def test_a_background_run_goes_on_after_the_response_and_before_the_freeze(
    scene: Scene, tmp_path: Path
) -> None:
    environment = await scene.environment()
    thread = await scene.ask(environment, "POST", "/threads", {})
    gate = tmp_path / "gate"
    invocation = environment.begin(
        asked(
            "POST",
            f"/threads/{thread['thread_id']}/runs",
            {"assistant_id": "line", "input": {"n": 5, "gate": str(gate)}},
        )
    )
    # THEN the client has its answer while the run is running, and the environment is free when it has ended
    run = await answer_of(invocation)
    assert run["status"] == "running"
    await scene.until(lambda: scene.begun(run))
    assert not invocation.done.done()
    gate.touch()
    await invocation.done
    assert scene.row(run)["status"] == "success"
    assert scene.begun(run) == once_each(5)


async def test_a_run_longer_than_the_hold_is_handed_over_at_a_boundary(scene: Scene) -> None:
    environment = await scene.environment(env={"SLACKWATER_AFTER_RESPONSE_SECONDS": "0.8"})
    await scene.begin(environment, "line", n=1)  # the graph is imported, which may take longer than that
    run = await scene.begin(environment, "line", n=20, sleep=0.1)
    row = scene.row(run)
    assert (row["status"], row["stopped"], row["worker"]) == ("pending", "drained", None)
    assert 0 < len(scene.begun(run)) < 20
    await scene.sweep_until_over(environment, run)
    assert scene.begun(run) == once_each(20)


async def test_a_frozen_environment_serves_at_once_when_its_sockets_have_died_meanwhile(scene: Scene) -> None:
    environment = await scene.environment()
    thread = await scene.ask(environment, "POST", "/threads", {})
    environment.freeze()
    assert terminate_sessions(scene) > 0
    environment.thaw()
    found = await scene.ask(environment, "GET", f"/threads/{thread['thread_id']}")
    assert found["thread_id"] == thread["thread_id"]
    reply = await environment.invoke(
        asked(
            "POST", f"/threads/{thread['thread_id']}/runs/wait", {"assistant_id": "line", "input": {"n": 2}}
        )
    )
    assert reply.body["log"] == ["step-1", "step-2"]


@pytest.mark.prompt
async def test_an_idle_environment_is_gone_in_time(scene: Scene) -> None:
    environment = await scene.environment()
    await scene.ask(environment, "POST", "/threads", {})
    assert await environment.terminate() < GONE_MS
    (report,) = environment.lines("drain.report")
    assert (report["reason"], report["runs"]) == ("SIGTERM", [])


@pytest.mark.prompt
@pytest.mark.parametrize(
    ("graph", "sleep", "outcome"),
    [("line", 0.02, "drained"), ("line", 60.0, "cancelled"), ("sync_line", 60.0, "cancelled")],
)
async def test_an_environment_that_is_taken_away_in_the_middle_of_a_run_hands_it_over(
    scene: Scene, graph: str, sleep: float, outcome: str
) -> None:
    environment = await scene.environment()
    thread = await scene.ask(environment, "POST", "/threads", {})
    invocation = environment.begin(
        asked(
            "POST",
            f"/threads/{thread['thread_id']}/runs",
            {"assistant_id": graph, "input": {"n": 200, "sleep": sleep}, "config": {"recursion_limit": 500}},
        )
    )
    run = await answer_of(invocation)
    await scene.until(lambda: scene.begun(run))
    # WHEN Lambda takes the environment away
    assert await environment.terminate() < GONE_MS
    # THEN the run is anybody's, at once
    row = scene.row(run)
    assert (row["status"], row["worker"]) == ("pending", None)
    reports = environment.lines("drain.report")
    assert [line["outcome"] for report in reports for line in report["runs"]][-1] == outcome
    if outcome == "drained":
        other = await scene.environment()
        await scene.sweep_until_over(other, run)
        assert scene.begun(run) == once_each(200)


async def test_a_killed_environments_run_is_found_by_the_sweep(scene: Scene) -> None:
    environment = await scene.environment(timeout_seconds=20, env={"SLACKWATER_LEASE_SECONDS": "3"})
    thread = await scene.ask(environment, "POST", "/threads", {})
    invocation = environment.begin(
        asked(
            "POST",
            f"/threads/{thread['thread_id']}/runs",
            {"assistant_id": "line", "input": {"n": 15, "sleep": 0.1}},
        )
    )
    run = await answer_of(invocation)
    await scene.until(lambda: len(scene.begun(run)) > 3)
    await environment.kill()
    assert scene.row(run)["status"] == "running"
    other = await scene.environment()
    await scene.until(lambda: expired(scene))
    await scene.sweep_until_over(other, run)
    # THEN no more than the two supersteps that a kill may cost have run twice
    assert set(scene.begun(run)) == set(once_each(15))
    assert scene.begun(run).total() <= 15 + 2


@pytest.mark.parametrize("extension", ["true", "false"])
async def test_a_function_that_runs_out_of_time_loses_no_run(scene: Scene, extension: str) -> None:
    environment = await scene.environment(
        timeout_seconds=10,
        env={"SLACKWATER_LAMBDA_EXTENSION": extension, "SLACKWATER_LEASE_SECONDS": "3"},
    )
    await scene.begin(environment, "line", n=1)  # the graph is imported, which takes its time, too
    thread = await scene.ask(environment, "POST", "/threads", {})
    # WHEN a node holds the event loop for longer than the function may take: nothing in the process can stop it
    reply = await environment.invoke(
        asked(
            "POST",
            f"/threads/{thread['thread_id']}/runs",
            {"assistant_id": "blocking_line", "input": {"n": 3, "long": 12.0, "long_at": 2}},
        )
    )
    (run,) = scene.watcher.query(
        "select run_id::text, thread_id::text from slackwater.runs where graph_id = 'blocking_line'"
    )
    if extension == "false":
        assert reply.error is not None
    other = await scene.environment(timeout_seconds=40, env={"SLACKWATER_LEASE_SECONDS": "30"})
    await scene.until(lambda: scene.row(run)["status"] == "pending" or expired(scene))
    await scene.sweep_until_over(other, run)
    assert scene.row(run)["status"] == "success"
    assert scene.begun(run).total() <= 3 + 2  # what a kill may cost


@pytest.mark.parametrize("extension", ["true", "false"])
async def test_a_hanging_node_does_not_cost_the_function_its_time_limit(scene: Scene, extension: str) -> None:
    # The node is cut early: what comes then has seconds, on a busy machine.
    env = {"SLACKWATER_LAMBDA_EXTENSION": extension, "SLACKWATER_DRAIN_RESERVE_SECONDS": "2.5"}
    environment = await scene.environment(timeout_seconds=8, env=env)
    await scene.begin(environment, "line", n=1)  # the graph is imported, which takes its time, too
    run = await scene.begin(environment, "line", n=3, long=60.0, long_at=2)
    row = scene.row(run)
    assert (row["status"], row["stopped"]) == ("pending", "cut")
    # THEN it goes on to serve
    assert (await scene.ask(environment, "GET", f"/threads/{run['thread_id']}/runs/{run['run_id']}"))[
        "status"
    ] == "pending"


def sessions(scene: Scene) -> set[int]:
    rows = scene.watcher.query(
        "select pid from pg_stat_activity where datname = current_database() and application_name like 'slackwater%'"
    )
    return {row["pid"] for row in rows}


def terminate_sessions(scene: Scene) -> int:
    return len(
        scene.watcher.query(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and application_name like 'slackwater%'"
        )
    )


def expired(scene: Scene) -> bool:
    return bool(
        scene.watcher.query(
            "select 1 from slackwater.runs where status = 'running' and lease_until < clock_timestamp()"
        )
    )


async def answer_of(invocation: PendingInvocation) -> dict[str, str]:
    """The JSON that an HTTP event is answered with, while the environment is still awake."""
    outcome = await invocation.outcome
    answer = json.loads(outcome.payload)
    assert answer.get("statusCode") == 200, answer
    found: dict[str, str] = json.loads(answer["body"])
    return found
