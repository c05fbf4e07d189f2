"""A run that takes several function time limits, and a client that does not notice."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import boto3
import pytest
from langgraph_sdk import get_client

from tests.drills.drill import PROJECT
from tests.handler.scene import SECRET, Scene, once_each
from tests.support.amazon import ACCOUNT, amazon
from tests.support.browser import client_program
from tests.support.emulator import gateway_of
from tests.support.server import ServerProcess, fleet_of

pytestmark = pytest.mark.filterwarnings("ignore:Request failed, attempting reconnect:UserWarning")

TIME_LIMIT = 10
SUPERSTEPS = 102
SUPERSTEP_SECONDS = 0.4
"""Less than half of the time in which one that is asked to stop may end by itself."""


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an SQS queue."""
    with amazon() as endpoint:
        for name, value in {**ACCOUNT, "AWS_ENDPOINT_URL_SQS": endpoint}.items():
            monkeypatch.setenv(name, value)
        sqs = boto3.client("sqs", endpoint_url=endpoint)
        attributes = {"VisibilityTimeout": str(6 * TIME_LIMIT)}
        url: str = sqs.create_queue(QueueName="work", Attributes=attributes)["QueueUrl"]
        sqs.close()
        yield url


@asynccontextmanager
async def gateway(scene: Scene, queue: str, limit: int = TIME_LIMIT) -> AsyncIterator[ServerProcess]:
    variables = {**scene.variables, "SLACKWATER_DRAIN_RESERVE_SECONDS": "2"}
    async with gateway_of(
        scene.folder,
        PROJECT,
        env={**variables, "AWS_ENDPOINT_URL_SQS": os.environ["AWS_ENDPOINT_URL_SQS"]},
        environments=3,
        timeout_seconds=limit,
        options=(
            "--queue-url",
            queue,
            "--schedule-seconds",
            "3",
            "--env",
            "DRILL_EFFECTS_URI",
            "--env",
            "AWS_ENDPOINT_URL_SQS",
        ),
    ) as server:
        yield server


async def test_the_stream_of_a_run_longer_than_four_time_limits_is_whole(scene: Scene, queue: str) -> None:
    assert SUPERSTEPS * SUPERSTEP_SECONDS > 4 * TIME_LIMIT
    async with (
        gateway(scene, queue) as server,
        get_client(url=server.url, api_key=SECRET, timeout=60) as client,
    ):
        thread = await client.threads.create()
        steps, events = [], []
        # WHEN the stock client streams it through the gateway, which collects every answer whole
        async for part in client.runs.stream(
            thread["thread_id"],
            "line",
            input={"n": SUPERSTEPS, "sleep": SUPERSTEP_SECONDS},
            stream_mode=["updates", "values"],
            config={"recursion_limit": 150},
        ):
            events.append(part.event)
            if part.event == "updates":
                steps.append(part.data["step"]["i"])
        # THEN it has read one uninterrupted, complete stream
        assert steps == list(range(1, SUPERSTEPS + 1)), server.tail()
        assert "error" not in events
        assert (await client.threads.get(thread["thread_id"]))["status"] == "idle"
    # AND each superstep has run once, in whichever environment
    (row,) = scene.watcher.query("select * from slackwater.runs")
    run = {"run_id": str(row["run_id"])}
    assert (row["status"], row["attempt"]) == ("success", 1)
    assert row["handovers"] >= 4
    assert scene.begun(run) == once_each(SUPERSTEPS)


async def test_the_javascript_client_reads_pages_as_one_stream(scene: Scene, queue: str) -> None:
    supersteps = 35
    given = json.dumps({"n": supersteps, "sleep": SUPERSTEP_SECONDS})
    assert supersteps * SUPERSTEP_SECONDS > TIME_LIMIT
    async with gateway(scene, queue) as server:
        # WHEN the stock client streams a run that is handed over, in answers that are collected whole
        async with client_program("stream.cjs", server.url, SECRET, "line", given) as program:
            out, errors = await program.communicate()
        # THEN it has read all of it, once
        assert not errors, errors.decode()
        parts = json.loads(out)
        steps = [part["data"]["step"]["i"] for part in parts if part["event"] == "updates"]
        assert steps == list(range(1, supersteps + 1)), server.tail()
        assert len({part["id"] for part in parts}) == len(parts)
        assert len({part["id"].partition("-")[0] for part in parts}) > 1


async def test_a_run_goes_from_a_container_to_lambda_and_back(scene: Scene) -> None:
    environment = await scene.environment(env={"SLACKWATER_AFTER_RESPONSE_SECONDS": "0.5"})
    async with fleet_of(scene.database_uri, scene.folder, PROJECT, scene.variables) as fleet:
        (server,) = await fleet.start()
        async with get_client(url=server.url, api_key=SECRET) as client:
            thread = await client.threads.create()
            run = await client.runs.create(thread["thread_id"], "line", input={"n": 20, "sleep": 0.1})
        await scene.until(lambda: len(scene.begun(run)) > 3)
        # WHEN the container is drained, and the schedule wakes an environment
        server.sigterm()
        assert await server.wait() == 0
        await scene.sweep_until_over(environment, run)
        assert scene.begun(run) == once_each(20)
        # AND the other way round
        run = await scene.begin(environment, "line", n=20, sleep=0.1)
        assert (scene.row(run)["status"], scene.row(run)["stopped"]) == ("pending", "drained")
        await fleet.start()
        await scene.until(lambda: scene.row(run)["status"] == "success")
        assert scene.begun(run) == once_each(20)
