"""A project's `authenticate` that does not come back holds up neither a stop nor other callers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.server import fleet_of

from slackwater.identity.custom import authenticator

Project = Callable[..., Path]

HANGS = """
import asyncio
import threading
from pathlib import Path

from langgraph_sdk import Auth

auth = Auth()
begun = Path(__file__).parent / "begun"


@auth.authenticate
def authenticate(authorization):
    name = (authorization or "").removeprefix("Bearer ")
    if name == "hangs":
        begun.touch()
        threading.Event().wait()
    return name
"""
AWAITS = HANGS.replace("def authenticate", "async def authenticate").replace(
    "threading.Event().wait()", "await asyncio.Event().wait()"
)
GRACE = 6.0


@pytest.mark.parametrize("source", [HANGS, AWAITS], ids=["in a thread", "in the loop"])
async def test_a_stop_does_not_wait_for_it(
    project: Project, database_uri: str, tmp_path: Path, source: str
) -> None:
    folder = project(source=source)
    env = {"SLACKWATER_GRACE_SECONDS": str(GRACE)}
    async with fleet_of(database_uri, tmp_path, folder, env) as fleet:
        # GIVEN a run of a user's, and somebody about whom `authenticate` never makes up its mind
        [first] = await fleet.start()
        async with httpx.AsyncClient(timeout=60) as client:
            alice = {"authorization": "Bearer alice"}
            body = {"assistant_id": "slow", "input": {}, "if_not_exists": "create"}
            thread = (await client.post(f"{first.url}/threads", json={}, headers=alice)).json()["thread_id"]
            runs = f"/threads/{thread}/runs"
            hanging = asyncio.create_task(
                client.post(f"{first.url}/threads/search", json={}, headers={"authorization": "Bearer hangs"})
            )
            while not (folder / "begun").exists():
                await asyncio.sleep(0.01)
            run = (await client.post(f"{first.url}{runs}", json=body, headers=alice)).json()
            # WHEN the process is stopped
            stopped_at = first.sigterm()
            await first.wait()
            # THEN it is gone in time, and the run was handed over at its boundary
            assert time.monotonic() - stopped_at < GRACE + 2
            assert [line["outcome"] for line in first.report()["runs"]] == ["drained"]
            with suppress(httpx.HTTPError):
                assert (await hanging).status_code >= 500
            # AND it is still its user's
            [second] = await fleet.start()
            seen = (await client.get(f"{second.url}{runs}/{run['run_id']}/join", headers=alice)).json()[
                "seen"
            ]
            assert (seen["identity"], seen["server_info"]) == ("alice", "alice")


async def test_functions_that_hang_leave_threads_for_others(
    serve: Callable[..., Any], project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authenticator, "SECONDS", 0.5)
    monkeypatch.setattr(authenticator, "THREADS", 2)
    async with serve(project=project(source=HANGS)) as api:
        hangs, alice = (api.client(authorization=f"Bearer {name}") for name in ("hangs", "alice"))
        lost = await asyncio.gather(*(hangs.post("/threads/search", json={}) for _ in range(3)))
        let_in = await alice.post("/threads/search", json={})

    assert [answer.status_code for answer in lost] == [500] * 3
    assert let_in.status_code == 200
