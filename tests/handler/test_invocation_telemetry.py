"""What an execution environment says of its invocations, read where CloudWatch would read it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.drills.drill import PROJECT
from tests.handler.scene import KEYS, Scene, asked
from tests.support.emulator import LocalEnvironment
from tests.support.server import SOURCES


def metrics(environment: LocalEnvironment) -> list[dict[str, Any]]:
    """The lines in the Embedded Metric Format, without their envelopes."""
    lines = [line for line in environment.lines() if "_aws" in line]
    for line in lines:
        (directive,) = line["_aws"]["CloudWatchMetrics"]
        assert (directive["Namespace"], directive["Dimensions"]) == ("Slackwater", [["service"]])
        assert {entry["Name"] for entry in directive["Metrics"]} == line.keys() - {"_aws", "service"}
    return [{name: value for name, value in line.items() if name != "_aws"} for line in lines]


def total(environment: LocalEnvironment, name: str) -> float:
    return float(sum(sum(line.get(name, [])) for line in metrics(environment)))


async def test_a_run_that_is_handed_over_is_in_the_metrics_before_the_freeze(scene: Scene) -> None:
    environment = await scene.environment(env={"SLACKWATER_AFTER_RESPONSE_SECONDS": "0.3"})
    run = await scene.begin(environment, "line", n=6, sleep=0.1)
    assert scene.row(run)["status"] == "pending"
    # THEN all of it has been said when the environment may be frozen
    names = ("cold_start", "runs_started", "runs_drained", "runs_handed_over", "runs_finished")
    assert [total(environment, name) for name in names] == [1, 1, 1, 1, 0]
    assert max(value for line in metrics(environment) for value in line.get("runs_live", [])) == 1
    (drain_ms,) = [value for line in metrics(environment) for value in line.get("drain_ms", [])]
    (report,) = environment.lines("drain.report")
    assert drain_ms == report["took_ms"]
    # AND the invocation that goes on with it adds only what is new
    await scene.sweep_until_over(environment, run)
    assert [total(environment, name) for name in names] == [
        1,
        1,
        scene.row(run)["handovers"],
        scene.row(run)["handovers"],
        1,
    ]
    assert "runs_stuck" in {name for line in metrics(environment) for name in line}


async def test_an_invocation_in_which_nothing_happens_writes_no_metrics(scene: Scene) -> None:
    environment = await scene.environment()
    await scene.ask(environment, "POST", "/threads/search", {})
    before = len(metrics(environment))
    for _ in range(3):
        await scene.ask(environment, "POST", "/threads/search", {})
    assert len(metrics(environment)) == before


@pytest.mark.prompt
async def test_a_stop_by_sigterm_is_in_the_metrics(scene: Scene) -> None:
    environment = await scene.environment(env={"SLACKWATER_AFTER_RESPONSE_SECONDS": "20"})
    thread = await scene.ask(environment, "POST", "/threads", {})
    path = f"/threads/{thread['thread_id']}/runs"
    running = environment.begin(
        asked("POST", path, {"assistant_id": "line", "input": {"n": 50, "sleep": 0.05}})
    )
    await running.outcome
    await environment.terminate()
    assert total(environment, "runs_handed_over") == 1
    assert total(environment, "drain_overrun") == 0


async def test_the_lines_of_an_invocation_say_whose_they_are(scene: Scene) -> None:
    environment = await scene.environment(env={"SLACKWATER_AFTER_RESPONSE_SECONDS": "0.3"})
    event = asked("POST", "/threads", {})
    thread = (await environment.invoke(event)).body
    event = asked(
        "POST",
        f"/threads/{thread['thread_id']}/runs",
        {"assistant_id": "line", "input": {"n": 10, "sleep": 0.1}},
    )
    await environment.invoke(event)
    (report,) = environment.lines("drain.report")
    # THEN also those that are written after the response, by another thread
    assert report["correlation_id"] == event["requestContext"]["requestId"]
    assert report["function_request_id"] not in ("", report["correlation_id"])
    assert report["cold_start"] is False
    assert 0 < report["remaining_ms"] < 30_000
    assert report["service"] == "slackwater"
    # AND nobody else writes them a second time, and requests have no lines: the gateway's log has them
    assert "drained" not in re.sub(r"^{.*", "", environment.log(), flags=re.M)
    assert "/threads" not in environment.log()


@pytest.mark.prompt
async def test_a_node_that_blocks_the_loop_is_an_overrun(scene: Scene) -> None:
    environment = await scene.environment(timeout_seconds=9)
    thread = await scene.ask(environment, "POST", "/threads", {})
    path = f"/threads/{thread['thread_id']}/runs"
    given = {"assistant_id": "blocking_line", "input": {"n": 3, "long": 20.0, "long_at": 1}}
    await environment.invoke(asked("POST", path, given))
    assert total(environment, "drain_overrun") == 1
    assert len(environment.lines("invocation.overrun")) == 1


SNAPSHOT = """
from slackwater import telemetry
from slackwater.main import create_app
from slackwater.telemetry import metrics
from slackwater_lambda.environment import Environment
environment = Environment(create_app())
environment.start()
metrics.count(metrics.Metric.LEASE_LOST)
environment.suspend()
print("the snapshot", flush=True)
environment.resume()
telemetry.flush()
environment.stop()
"""


def test_copies_of_a_snapshot_do_not_say_again_what_was_before_it(database_uri: str) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("SLACKWATER_", "AWS_"))},
        "SLACKWATER_DATABASE_URI": database_uri,
        "SLACKWATER_PROJECT": str(PROJECT),
        "SLACKWATER_API_KEYS": KEYS,
        "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9",
        "PYTHONPATH": os.pathsep.join(map(str, SOURCES)),
    }
    done = subprocess.run(
        [sys.executable, "-c", SNAPSHOT],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    before, _, after = done.stdout.partition("the snapshot")
    assert '"lease_lost":[1.0]' in before
    assert "lease_lost" not in after
