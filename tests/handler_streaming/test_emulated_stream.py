"""The protocol, as AWS's own Runtime API understands it: that of the emulator, which collects the stream."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import httpx
import pytest

from tests.handler_streaming.conftest import PROJECT, SETTINGS, complaints, from_url
from tests.support.emulator import LocalEnvironment, environment_of, request
from tests.support.runtime_api import BOOTSTRAP, NULS


async def emulated(local: LocalEnvironment, event: object) -> httpx.Response:
    """The emulator's own answer, at the end of the invocation."""
    url = f"http://127.0.0.1:{local.environment._port}/2015-03-31/functions/function/invocations"
    async with httpx.AsyncClient(verify=False, timeout=30) as client:
        return await client.post(url, json=event)


@pytest.mark.prompt
async def test_the_emulator_takes_streams_results_and_errors(database_uri: str, tmp_path: Path) -> None:
    async with environment_of(
        tmp_path / "log",
        folder=PROJECT,
        env={**SETTINGS, "SLACKWATER_DATABASE_URI": database_uri},
        command=(str(BOOTSTRAP), sys.executable),
    ) as local:
        body = {"assistant_id": "steps", "input": {"n": 3, "sleep": 0.05}, "stream_mode": ["custom"]}
        response = await emulated(local, from_url("POST", "/runs/stream", body))
        runtime = local.runtime_pid
        answer, content = response.content.split(NULS, 1)
        collected = await local.invoke(request("GET", "/ok"))
        swept = await local.invoke({"task": "sweep"})
        failed = await local.invoke({"what": "is this"})

        assert response.status_code == 200
        assert json.loads(answer)["statusCode"] == 200
        assert json.loads(answer)["headers"]["content-type"].startswith("text/event-stream")
        assert content.count(b"event: custom") == 3
        assert collected.status == 200
        assert swept.payload["task"] == "sweep"
        assert (failed.error, failed.payload["errorType"]) == ("Unhandled", "UnknownEvent")
        assert local.runtime_pid == runtime
        assert await local.terminate() < 500
        assert complaints(local) == []
