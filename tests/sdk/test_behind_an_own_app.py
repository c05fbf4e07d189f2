"""The stock client behind a prefix and a project's own middleware, across a hand-over: it notices neither."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_client

from tests.drills.drill import PROJECT, Drill
from tests.support.balancer import Balancer
from tests.support.effects import finished, repeated, started

pytestmark = [
    pytest.mark.drill,
    pytest.mark.filterwarnings("ignore:Request failed, attempting reconnect:UserWarning"),
]

APP = """
import logging
from contextlib import asynccontextmanager
from fastapi import FastAPI
from starlette.responses import StreamingResponse

log = logging.getLogger("own")

@asynccontextmanager
async def lifespan(app):
    yield
    log.warning("own app left", extra={"event": "own.left"})

app = FastAPI(lifespan=lifespan)

@app.middleware("http")
async def mark(request, call_next):
    response = await call_next(request)
    response.headers["x-marked"] = "yes"
    return response

@app.get("/feed")
async def feed():
    log.warning("asked", extra={"event": "own.asked"})
    async def forever():
        import asyncio
        while True:
            yield b"data: 1\\n\\n"
            await asyncio.sleep(0.05)
    return StreamingResponse(forever(), media_type="text/event-stream")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "web.py").write_text(APP)
    content = {
        "dependencies": [str(PROJECT)],
        "graphs": {"line": f"{PROJECT}/graphs.py:line"},
        "http": {"app": "./web.py:app", "mount_prefix": "/agents"},
    }
    (folder / "langgraph.json").write_text(json.dumps(content))
    return folder


async def cut(url: str, body: dict[str, Any]) -> tuple[bool, bool]:
    """Start a run and read its stream: whether it was broken off, and whether it went through the middleware."""
    async with httpx.AsyncClient(timeout=30) as http:
        async with http.stream("POST", f"{url}/runs/stream", json=body) as answer:
            marked = answer.headers.get("x-marked") == "yes"
            try:
                async for _ in answer.aiter_bytes():
                    pass
            except httpx.RemoteProtocolError:
                return True, marked
        return False, marked


async def test_streams_and_waits_go_on_below_a_prefix_and_behind_middleware(
    drill: Drill, project: Path
) -> None:
    # GIVEN a stock server, which waits at a stop until every connection has closed, and ours
    (first,), (second,) = await asyncio.gather(
        drill.fleet.start(1, project=project, uvicorn=True),
        drill.fleet.start(1, project=project, env={"SLACKWATER_GRACE_SECONDS": "20"}),
    )
    given = {"n": 16, "sleep": 0.15}
    async with (
        Balancer([first]).serve() as balancer,
        # GIVEN a client whose base URL has the prefix
        get_client(url=f"{balancer.url}/agents", timeout=60, api_key=None) as client,
    ):

        async def stream() -> list[tuple[str, Any]]:
            thread = await client.threads.create()
            options: Any = {"input": given, "stream_mode": ["updates"]}
            return [
                (part.event, part.data)
                async for part in client.runs.stream(thread["thread_id"], "line", **options)
            ]

        async def wait() -> Any:
            thread = await client.threads.create()
            return await client.runs.wait(thread["thread_id"], "line", input=given)

        streams = [asyncio.create_task(stream()) for _ in range(3)]
        waits = [asyncio.create_task(wait()) for _ in range(3)]
        raw = asyncio.create_task(cut(f"{balancer.url}/agents", {"assistant_id": "line", "input": given}))
        feed = asyncio.create_task(read_feed(f"{first.url}/agents/feed"))
        # Not those that are active: the first may end before the last has begun.
        await drill.until(lambda: len(drill.effects.runs()) == 7, what="all runs started")
        await asyncio.sleep(0.4)
        # WHEN the process is stopped
        balancer.replicas.append(second)
        first.sigterm()
        assert await first.wait() == -signal.SIGTERM  # which uvicorn raises again when it is done
        read, values = await asyncio.gather(*streams), await asyncio.gather(*waits)
        # THEN every client has read the whole run
        for parts in read:
            assert [event for event, _ in parts] == ["metadata", *["updates"] * 16]
            assert not repeated(started(drill.effects.of(parts[0][1]["run_id"])))
        assert [len(value["log"]) for value in values] == [16] * 3
        # AND what was cut off looked like it, though the middleware ends every answer properly
        assert await raw == (True, True)
        # AND the application's own endless answer did not hold up the stop, in which it was left after the drain
        assert await feed
        assert {run["outcome"] for run in first.report()["runs"]} == {"drained"}
        # AND a reader who leaves is noticed behind the middleware, too
        body = {"assistant_id": "line", "input": {"n": 100, "sleep": 0.1}, "on_disconnect": "cancel"}
        run_id = await leave(f"{second.url}/agents/runs/stream", body)
        await drill.until(
            lambda: drill.active("line") == 0, what="the run of the reader who left is cancelled"
        )
        assert len(finished(drill.effects.of(run_id))) < 100
        # AND ours is held up as little
        feed = asyncio.create_task(read_feed(f"{second.url}/agents/feed"))
        while not second.events("own.asked"):
            await asyncio.sleep(0.01)
        assert await drill.stop(second) < 5
        assert await feed
        for server in (first, second):
            told = [line.get("event") for line in server.log()]
            assert [event for event in told if event in LEFT] == list(LEFT)


LEFT = ("custom.cut", "own.left", "drain.report")
"""In this order."""


async def leave(url: str, body: dict[str, Any]) -> str:
    """Start a run, read the first of its events and go; the run's id."""
    async with httpx.AsyncClient(timeout=30) as http, http.stream("POST", url, json=body) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                return str(json.loads(line.removeprefix("data: "))["run_id"])
    raise AssertionError("no event")


async def read_feed(url: str) -> bool:
    """Read until the server has gone; whether anything came."""
    read = False
    async with httpx.AsyncClient(timeout=30) as http:
        try:
            async with http.stream("GET", url) as answer:
                async for _ in answer.aiter_bytes():
                    read = True
        except httpx.HTTPError:
            pass
    return read
