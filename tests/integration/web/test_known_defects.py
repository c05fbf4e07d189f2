"""Defects that the gateway which this project was conceived from has or had, over HTTP against a server process.

Each test names its line in the study of that gateway: section 6.2, what is still wrong there, and 6.3, what was mended later.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from support.server import fleet_of

GRAPHS = Path(__file__).parents[2] / "graphs"
RUN = {"assistant_id": "echo", "input": {"text": "a"}}


@pytest.fixture
async def people(database_uri: str, tmp_path: Path) -> AsyncIterator[dict[str, httpx.AsyncClient]]:
    """Alice and Bob, with a key each."""
    keys = {name: f"sw_{secrets.token_urlsafe(32)}" for name in ("alice", "bob")}
    setting = ",".join(f"{name}:{hashlib.sha256(key.encode()).hexdigest()}" for name, key in keys.items())
    env = {"SLACKWATER_API_KEYS": setting, "SLACKWATER_MAX_RECURSION_LIMIT": "7"}
    async with fleet_of(database_uri, tmp_path, GRAPHS, env) as fleet, AsyncExitStack() as stack:
        (server,) = await fleet.start()
        yield {
            name: await stack.enter_async_context(
                httpx.AsyncClient(base_url=server.url, headers={"x-api-key": key}, timeout=30)
            )
            for name, key in keys.items()
        }


async def thread_of(client: httpx.AsyncClient, marker: str) -> str:
    """A thread whose state has the marker."""
    thread = str((await client.post("/threads", json={})).json()["thread_id"])
    answer = await client.post(
        f"/threads/{thread}/runs/wait", json={"assistant_id": "echo", "input": {"text": marker}}
    )
    assert answer.status_code == 200, answer.text
    assert marker in (await client.get(f"/threads/{thread}/state")).text
    return thread


async def test_h1_a_stateless_run_reads_no_thread_that_its_body_names(
    people: dict[str, httpx.AsyncClient],
) -> None:
    """6.3, stateless IDOR: the thread of another in the body of /runs/stream and /runs/wait."""
    marker = f"secret-{uuid4().hex}"
    thread = await thread_of(people["alice"], marker)
    before = (await people["alice"].get(f"/threads/{thread}/state")).json()
    for path in ("/runs/stream", "/runs/wait", "/runs"):
        for named in (
            {"thread_id": thread},
            {"config": {"configurable": {"thread_id": thread}}},
            {"context": {"thread_id": thread}},
            {"checkpoint": {"thread_id": thread}},
            {"config": {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}, "stream_mode": "values"},
        ):
            answer = await people["bob"].post(path, json={**RUN, **named})
            assert marker not in answer.text, (path, named)
            assert answer.status_code in (200, 400, 404, 422), (path, named)
    assert (await people["alice"].get(f"/threads/{thread}/state")).json() == before
    assert len((await people["alice"].get(f"/threads/{thread}/runs")).json()) == 1


async def test_a_run_stays_on_its_own_thread_whatever_its_configurable_says(
    people: dict[str, httpx.AsyncClient],
) -> None:
    """6.3: a run on a thread that the caller owns, redirected to one that they do not."""
    marker = f"secret-{uuid4().hex}"
    foreign, own = await thread_of(people["alice"], marker), await thread_of(people["bob"], "b")
    before = (await people["alice"].get(f"/threads/{foreign}/history")).json()
    answer = await people["bob"].post(
        f"/threads/{own}/runs/wait",
        json={**RUN, "config": {"configurable": {"thread_id": foreign, "user_id": "alice"}}},
    )
    assert answer.status_code in (200, 400, 422)
    assert marker not in answer.text
    assert (await people["alice"].get(f"/threads/{foreign}/history")).json() == before


WRONG: tuple[dict[str, Any], ...] = (
    {"assistant_id": str(uuid4())},
    {"webhook": "ftp://nowhere"},
    {"stream_mode": "nothing"},
    {"multitask_strategy": "nothing"},
    {"config": {"configurable": {"a": 1}}, "context": {"b": 1}},
    {"command": {"resume": 1, "goto": 7}},
    {"checkpoint_id": "none"},
)


async def test_a_refused_run_leaves_nothing_that_blocks_its_thread(
    people: dict[str, httpx.AsyncClient],
) -> None:
    """6.3: a pending run without a task after a 400, and a thread that answers 409 from then on."""
    alice = people["alice"]
    thread = (await alice.post("/threads", json={})).json()["thread_id"]
    for wrong in WRONG:
        refused = await alice.post(f"/threads/{thread}/runs", json={**RUN, **wrong})
        assert 400 <= refused.status_code < 500, (wrong, refused.text)
        assert (await alice.get(f"/threads/{thread}/runs")).json() == []
        assert (await alice.get(f"/threads/{thread}")).json()["status"] == "idle"
    taken = await alice.post(f"/threads/{thread}/runs/wait", json={**RUN, "multitask_strategy": "reject"})
    assert taken.status_code == 200


async def test_a_recursion_limit_is_bounded(people: dict[str, httpx.AsyncClient]) -> None:
    """6.3: recursion_limit without limit. Here the server's is 7."""
    alice = people["alice"]
    assistant = (
        await alice.post("/assistants", json={"graph_id": "steps", "config": {"recursion_limit": 10**9}})
    ).json()
    for body in (
        {"assistant_id": "steps", "config": {"recursion_limit": 10**9}},
        {"assistant_id": assistant["assistant_id"]},
    ):
        answer = await alice.post("/runs/wait", json={**body, "input": {"n": 1000}})
        error = answer.json()["__error__"]
        assert error["error"] == "GraphRecursionError", error
        assert "limit of 7" in error["message"]


async def test_who_waits_for_a_run_that_fails_hears_of_it(people: dict[str, httpx.AsyncClient]) -> None:
    """6.2, 19: /wait answers 200 with values, and hides the failure."""
    answer = await people["alice"].post("/runs/wait", json={"assistant_id": "fail", "input": {}})
    assert "__error__" in answer.json()


async def test_what_was_deleted_is_gone_and_its_stream_ends(people: dict[str, httpx.AsyncClient]) -> None:
    """6.2, 11: runs and events of a thread that was deleted. 6.3: a stream that only sends heartbeats, of a run that is gone."""
    alice = people["alice"]
    thread = await thread_of(alice, "a")
    (run,) = (await alice.get(f"/threads/{thread}/runs")).json()
    stream = f"/threads/{thread}/runs/{run['run_id']}/stream"
    assert "event: error" not in (await alice.get(stream)).text
    assert (await alice.delete(f"/threads/{thread}")).is_success
    for path in ("", "/runs", "/state", "/history", f"/runs/{run['run_id']}"):
        assert (await alice.get(f"/threads/{thread}{path}")).status_code == 404, path
    gone = (await alice.get(stream)).text
    assert gone.startswith("event: error\r\n")
    assert "metadata" not in gone


async def test_history_goes_on_before_a_checkpoint(people: dict[str, httpx.AsyncClient]) -> None:
    """6.2, 10: `before` as an equality filter."""
    alice = people["alice"]
    thread = await thread_of(alice, "a")
    entries = (await alice.post(f"/threads/{thread}/history", json={"limit": 10})).json()
    assert len(entries) > 2
    before = entries[0]["checkpoint"]["checkpoint_id"]
    older = (await alice.post(f"/threads/{thread}/history", json={"limit": 10, "before": before})).json()
    assert older == entries[1:]
