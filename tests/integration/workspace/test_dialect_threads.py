"""Threads in the gateway dialect: the lines T1 to T6 and H6 of the study, and rows 4 and 5 of the clients' contract."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from support.api import Api

PROJECT = Path(__file__).parent / "dialect"


@pytest.fixture
async def api(serve: Callable[..., Any]) -> AsyncIterator[Api]:
    """A server with the gateway, and two callers."""
    async with serve(project=PROJECT, gateway=True, names=("ann", "bob")) as api:
        yield api


@pytest.fixture
def ann(api: Api) -> httpx.AsyncClient:
    return api.client("ann")


@pytest.fixture
def bob(api: Api) -> httpx.AsyncClient:
    return api.client("bob")


async def chatted(client: httpx.AsyncClient, thread: str, *texts: str) -> None:
    """A thread on which somebody has said these."""
    for text in texts:
        asked = {"assistant_id": "lead_agent", "input": {"messages": [{"type": "human", "content": text}]}}
        answer = await client.post(f"/api/threads/{thread}/runs/wait", json=asked)
        assert answer.status_code == 200, answer.text


async def test_creating_a_thread_twice_and_deleting_it_twice_are_fine(
    ann: httpx.AsyncClient, bob: httpx.AsyncClient
) -> None:
    """T1, T2; rows `POST /threads` and `DELETE /threads/{id}`."""
    thread = str(uuid4())
    body = {"thread_id": thread, "metadata": {"user_id": "x", "owner_id": "y", "kind": "chat"}}
    for _ in range(2):
        made = await ann.post("/api/threads", json=body)
        assert made.status_code == 200, made.text
        assert made.json()["metadata"] == {"kind": "chat"}
    assert list(made.json()) == [
        "thread_id", "status", "created_at", "updated_at", "metadata", "values", "interrupts",
    ]  # fmt: skip
    for path in ("/api/threads", "/api/langgraph/threads"):
        assert (await bob.post(path, json=body)).status_code == 404
    foreign = await bob.delete(f"/api/threads/{thread}")
    assert foreign.status_code == 404
    assert (await bob.delete(f"/api/threads/{uuid4()}")).status_code == 404  # nobody learns what there is
    for path in (f"/api/langgraph/threads/{thread}", f"/api/threads/{thread}"):
        gone = await ann.delete(path)
        assert (gone.status_code, gone.json()["success"]) == (200, True)
    assert (await bob.delete(f"/api/threads/{thread}")).status_code == 404
    assert (await ann.get(f"/api/threads/{thread}")).status_code == 404


async def test_a_thread_is_renamed_and_found_whatever_ran_last(ann: httpx.AsyncClient) -> None:
    """Rows `POST /threads/{id}/state`, `POST /threads/search`, `PATCH` and `GET /threads/{id}`; T3, T5."""
    thread = str(uuid4())
    await ann.post("/api/threads", json={"thread_id": thread})
    await chatted(ann, thread, "fan")  # three nodes have run last
    renamed = await ann.post(f"/api/threads/{thread}/state", json={"values": {"title": "Tides"}})
    assert renamed.status_code == 200, renamed.text
    state = (await ann.get(f"/api/threads/{thread}/state")).json()
    assert list(state) == [
        "values", "next", "metadata", "checkpoint", "checkpoint_id", "parent_checkpoint_id", "created_at", "tasks",
    ]  # fmt: skip
    assert (state["values"]["title"], state["next"]) == ("Tides", [])
    assert state["checkpoint"] == {"id": state["checkpoint_id"], "ts": state["created_at"]}
    shown = (await ann.get(f"/api/threads/{thread}")).json()
    assert (shown["status"], shown["values"]["title"]) == ("idle", "Tides")
    patched = await ann.patch(
        f"/api/threads/{thread}", json={"metadata": {"agent_name": "a", "user_id": "other"}}
    )
    assert patched.json()["metadata"]["agent_name"] == "a"
    assert patched.json()["metadata"].get("user_id") != "other"
    assert patched.json()["updated_at"] > shown["updated_at"]
    page = {
        "limit": 50,
        "offset": 0,
        "sort_by": "updated_at",
        "sort_order": "desc",
        "select": ["thread_id", "updated_at", "values", "metadata"],
    }
    [found] = (await ann.post("/api/langgraph/threads/search", json=page)).json()
    assert set(found) == {"thread_id", "updated_at", "values", "metadata"}
    assert (found["values"], found["metadata"]["agent_name"]) == ({"title": "Tides"}, "a")
    for wrong in ({"a b": 1}, {"a": {}}, {"a": [1]}):
        assert (await ann.post("/api/threads/search", json={"metadata": wrong})).status_code == 422
    for metadata, number in (({"n": True}, 0), ({"agent_name": "a"}, 1), ({"agent_name": None}, 0)):
        found = (await ann.post("/api/threads/search", json={"metadata": metadata})).json()
        assert len(found) == number, metadata


async def test_a_thread_that_nothing_has_run_on_is_renamed(ann: httpx.AsyncClient) -> None:
    """Row `POST /threads/{id}/state`."""
    thread = str(uuid4())
    await ann.post("/api/threads", json={"thread_id": thread})
    empty = (await ann.get(f"/api/threads/{thread}/state")).json()
    assert (empty["values"], empty["next"]) == ({}, [])
    assert (await ann.post(f"/api/threads/{thread}/history", json={"limit": 1})).json() == []
    renamed = await ann.post(f"/api/threads/{thread}/state", json={"values": {"title": "Tides"}})
    assert renamed.status_code == 200, renamed.text
    assert (await ann.get(f"/api/threads/{thread}/state")).json()["values"]["title"] == "Tides"
    await chatted(ann, thread, "a")
    values = (await ann.get(f"/api/threads/{thread}/state")).json()["values"]
    assert (values["title"], [m["content"] for m in values["messages"]]) == ("Tides", ["a", "answer to a"])


async def test_history_pages_back_and_names_no_checkpoint(ann: httpx.AsyncClient) -> None:
    """Row `POST /threads/{id}/history`; 6.2, line 10."""
    thread = str(uuid4())
    await chatted(ann, thread, "a", "b", "c")
    seen: list[dict[str, Any]] = []
    before = None
    while True:
        body = {"limit": 2, **({"before": before} if before else {})}
        page = (await ann.post(f"/api/threads/{thread}/history", json=body)).json()
        if not page:
            break
        assert ["messages" in entry["values"] for entry in page][1:] == [False] * (len(page) - 1)
        seen += page
        before = page[-1]["checkpoint_id"]
    whole = (await ann.post(f"/api/threads/{thread}/history", json={"limit": 100})).json()
    assert [entry["checkpoint_id"] for entry in seen] == [entry["checkpoint_id"] for entry in whole]
    assert len(whole) == len({entry["checkpoint_id"] for entry in whole}) >= 9
    for entry in whole:
        assert list(entry) == [
            "checkpoint_id", "parent_checkpoint_id", "metadata", "values", "created_at", "next",
        ]  # fmt: skip
    assert [m["content"] for m in whole[0]["values"]["messages"]][-1] == "answer to c"
    assert set(whole[1]["values"]) <= {"title", "thread_data", "artifacts", "todos"}
    assert [entry["parent_checkpoint_id"] for entry in whole[:-1]] == [
        entry["checkpoint_id"] for entry in whole[1:]
    ]


async def test_every_route_with_a_thread_wants_it_canonical(api: Api, ann: httpx.AsyncClient) -> None:
    """H6."""
    operations = [
        (method, path)
        for path, item in api.app.openapi()["paths"].items()
        if path.startswith("/api/threads/{thread_id}")
        for method in item
    ]
    assert len(operations) >= 30
    thread = str(uuid4())
    for text in ("x", thread.upper(), thread.replace("-", ""), f"{{{thread}}}"):
        for method, path in operations:
            url = re.sub(r"{\w+}", str(uuid4()), path.replace("{thread_id}", text))
            answer = await ann.request(method, url, json=None if method == "get" else {})
            assert answer.status_code == 422, (method, url, answer.text)
        assert (await ann.post("/api/threads", json={"thread_id": text})).status_code == 422
