"""The whole project on the local twin: the real entry, a real database, the SDK's own client."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import httpx
from langgraph_sdk import get_client

from tests.support.command import run_command
from tests.support.emulator import gateway_of
from tests.support.server import ROOT

PROJECT = ROOT / "tests/graphs"
STEPS = 16
LIMITS = {
    "SLACKWATER_GATEWAY_LIMIT_SECONDS": "20",  # cold starts count, and the machine may be busy
    "SLACKWATER_STREAM_PAGE_SECONDS": "1.5",
    "SLACKWATER_AFTER_RESPONSE_SECONDS": "2",
    "SLACKWATER_DRAIN_RESERVE_SECONDS": "2",
}
SCHEDULE = ("--schedule-seconds", "5")
"""Wake-ups may be lost, on a busy machine by a cold start that takes a whole invocation; the sweep finds the run."""


async def test_a_run_longer_than_an_invocation_is_one_stream_for_the_client(
    database_uri: str, tmp_path: Path
) -> None:
    """GIVEN invocations of ten seconds WHEN a run takes longer THEN the function goes on by invoking itself."""
    env = {**LIMITS, "SLACKWATER_DATABASE_URI": database_uri}
    async with (
        asyncio.timeout(120),
        gateway_of(
            tmp_path, PROJECT, env=env, environments=3, timeout_seconds=10, options=SCHEDULE
        ) as server,
        get_client(url=server.url) as client,
    ):
        thread = await client.threads.create()
        stream = client.runs.stream(
            thread["thread_id"],
            "steps",
            input={"n": STEPS, "sleep": 0.7},
            stream_mode="updates",
            stream_resumable=True,
        )
        updates = [part.data async for part in stream if part.event == "updates"]
        [run] = await client.runs.list(thread["thread_id"])

        steps = [update["step"]["i"] for update in updates if "step" in update]
        assert steps == list(range(1, STEPS + 1)), server.tail()
        assert run["status"] == "success"
        shown = run_command(
            tmp_path, "runs", "show", run["run_id"], "--json", SLACKWATER_DATABASE_URI=database_uri
        )
        assert shown.json["handovers"] >= 1
    assert server.complaints() == []


async def test_answers_are_streamed_event_by_event_as_behind_a_function_url(
    database_uri: str, tmp_path: Path
) -> None:
    env = {**LIMITS, "SLACKWATER_DATABASE_URI": database_uri}
    async with (
        asyncio.timeout(120),
        gateway_of(tmp_path, PROJECT, env=env, environments=1, options=("--stream",)) as server,
        httpx.AsyncClient(base_url=server.url, timeout=30, trust_env=False) as client,
    ):
        assert (await client.get("/ok")).json()["ok"] is True
        body = {"assistant_id": "steps", "input": {"n": 6, "sleep": 0.4}, "stream_mode": "updates"}
        arrivals = []
        async with client.stream("POST", "/runs/stream", json=body) as response:
            assert response.status_code == 200
            async for line in response.aiter_lines():
                if line.startswith("event: updates"):
                    arrivals.append(time.monotonic())  # noqa: PERF401 - when each has come

        assert len(arrivals) == 7
        assert (
            arrivals[-1] - arrivals[0] > 0.5
        )  # of more than two seconds: a busy reader hears of the first one late
    assert server.complaints() == []


def test_invoke_runs_an_event_on_an_embedded_database(tmp_path: Path) -> None:
    event = {
        "task": "run",
        "id": "once",
        "assistant_id": "echo",
        "input": {"text": "ebb"},
        "owner": "lambda:local",
    }
    (tmp_path / "run.json").write_text(json.dumps(event))

    answer = run_command(tmp_path, "invoke", "-e", "run.json", "--project", PROJECT)

    assert answer.json["task"] == "run"
    shown = run_command(tmp_path, "runs", "show", answer.json["run_id"], "--json")
    assert shown.json["status"] == "success"
