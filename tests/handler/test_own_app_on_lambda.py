"""A project's own application on AWS Lambda: imported where it is asked for, opened once, left at the end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.drills.drill import PROJECT
from tests.handler.scene import Scene, asked
from tests.handler.test_life import GONE_MS

APP = """
import logging
from contextlib import asynccontextmanager
from fastapi import FastAPI, Request

log = logging.getLogger("own")

@asynccontextmanager
async def lifespan(app):
    log.warning("entered", extra={"event": "own.entered"})
    yield {"greeting": "hello"}
    log.warning("left", extra={"event": "own.left"})

app = FastAPI(lifespan=lifespan)

@app.middleware("http")
async def mark(request, call_next):
    response = await call_next(request)
    response.headers["x-marked"] = "yes"
    return response

@app.get("/hello")
async def hello(request: Request):
    return {"greeting": request.state.greeting}
"""


@pytest.mark.prompt
async def test_it_is_opened_once_for_many_invocations_and_left_at_the_end(
    scene: Scene, tmp_path: Path
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "web.py").write_text(APP)
    content = {
        "dependencies": [str(PROJECT)],
        "graphs": {"line": f"{PROJECT}/graphs.py:line"},
        "http": {"app": "./web.py:app", "enable_custom_route_auth": True},
    }
    (folder / "langgraph.json").write_text(json.dumps(content))
    environment = await scene.environment(env={"SLACKWATER_PROJECT": str(folder)})

    # WHEN its routes and the API are asked, several times
    for _ in range(2):
        assert await scene.ask(environment, "GET", "/hello") == {"greeting": "hello"}
    refused = await environment.invoke({**asked("GET", "/hello"), "headers": {}})
    assert refused.status == 401
    thread = await scene.ask(environment, "POST", "/threads", {})
    reply = await environment.invoke(
        asked(
            "POST",
            f"/threads/{thread['thread_id']}/runs/stream",
            {"assistant_id": "line", "input": {"n": 2}, "stream_mode": "updates"},
        )
    )
    assert reply.status == 200
    assert reply.payload["headers"]["x-marked"] == "yes"
    assert environment.log().count("own.entered") == 1
    assert "own.left" not in environment.log()

    # WHEN Lambda takes the environment away
    assert await environment.terminate() < GONE_MS
    # THEN it has been left, between the drain and the end of the pool
    told = [line.get("event") for line in environment.lines()]
    events = [event for event in told if event in ("own.left", "drain.report")]
    assert events == ["own.left", "drain.report"]
