"""Protocol v2 on AWS Lambda, where answers are collected."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

import orjson

from tests.handler.scene import Scene, asked


def told_in(body: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in body.split("\r\n") if line.startswith("data: ")]
    return [orjson.loads(line) for line in lines]


async def test_a_run_is_started_by_a_command_and_told_in_one_page(scene: Scene) -> None:
    environment = await scene.environment()
    path = f"/threads/{uuid4()}"
    start = {"assistant_id": "line", "input": {"n": 3, "sleep": 0.1}}
    told = await scene.ask(
        environment, "POST", f"{path}/commands", {"id": 1, "method": "run.start", "params": start}
    )
    assert told["type"] == "success"
    # WHEN a client asks what happens THEN its answer ends soon after the run has
    began = time.monotonic()
    wanted = {"channels": ["values", "lifecycle"]}
    reply = await environment.invoke(asked("POST", f"{path}/stream/events", wanted))
    assert time.monotonic() - began < 10
    assert reply.payload["headers"]["content-type"].startswith("text/event-stream")
    events = told_in(reply.payload["body"])
    assert [e["params"]["data"]["event"] for e in events if e["method"] == "lifecycle"] == [
        "running",
        "completed",
    ]
    assert events[-2]["params"]["data"]["log"] == ["step-1", "step-2", "step-3"]
    # AND who comes back with what it has gets nothing twice
    reply = await environment.invoke(
        asked("POST", f"{path}/stream/events", {**wanted, "since": events[-2]["seq"]})
    )
    assert told_in(reply.payload["body"]) == events[-1:]
    # A WebSocket's handshake is a request like any other here
    reply = await environment.invoke(asked("GET", f"{path}/stream/events"))
    assert (reply.status, "WebSocket" in reply.body["detail"]) == (405, True)
