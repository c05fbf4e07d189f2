"""What DeerFlow's page and channels ask for by the LangGraph SDK, call by call: section 4 of the clients' contract, and H2.

Their other calls: messages, usage, feedback, suggestions and files beside this file, accounts in `identity/accounts_http`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import ConflictError, NotFoundError
from support.api import Api

PROJECT = Path(__file__).parent / "dialect"
MODES = ["messages-tuple", "values", "updates", "custom", "events"]


@pytest.fixture
async def api(serve: Callable[..., Any]) -> AsyncIterator[Api]:
    async with serve(project=PROJECT, gateway=True, names=("ann",)) as api:
        yield api


@pytest.fixture
def client(api: Api) -> LangGraphClient:
    http = api.client("ann")
    http.base_url = "http://127.0.0.1:2024/api/langgraph"
    return LangGraphClient(http)


def said(text: str) -> dict[str, Any]:
    message = {"type": "human", "content": [{"type": "text", "text": text}], "id": f"m-{text}"}
    return {"messages": [{**message, "additional_kwargs": {"hide_from_ui": False}}]}


async def test_the_calls_of_the_page(client: LangGraphClient, tmp_path: Path) -> None:
    thread, gate, made = str(uuid4()), tmp_path / "gate", list[Any]()
    posted: dict[str, Any] = {
        "config": {"recursion_limit": 1000},
        "context": {
            "mode": "ultra",
            "thinking_enabled": True,
            "is_plan_mode": True,
            "subagent_enabled": True,
            "reasoning_effort": "high",
            "thread_id": thread,
        },
        "stream_mode": MODES,
        "stream_subgraphs": True,
        "stream_resumable": True,
    }
    # POST /threads: again after a first message that could not be sent
    for _ in range(2):
        assert (await client.threads.create(thread_id=thread, metadata={}))["thread_id"] == thread

    # POST /threads/{id}/runs/stream
    stream = client.runs.stream(
        thread, "lead_agent", input=said("a"), on_disconnect="continue", on_run_created=made.append, **posted
    )
    parts = [part async for part in stream]
    [run] = made
    assert run["thread_id"] == thread
    final = [part.data for part in parts if part.event == "values"][-1]
    assert final["messages"][0]["id"] == "m-a"
    assert [part.data["run_id"] for part in parts if part.event == "metadata"] == [run["run_id"]]
    assert {"messages", "updates"} <= {part.event for part in parts}

    # POST /threads/{id}/history, GET /threads/{id}/runs and its stream: a page that is opened
    [entry] = await client.threads.get_history(thread, limit=1)
    assert (entry["values"], entry["next"], "checkpoint" in entry) == (final, [], False)
    [shown] = await client.runs.list(thread, limit=10, offset=0)
    assert (shown["run_id"], shown["assistant_id"]) == (run["run_id"], "lead_agent")
    joined = client.runs.join_stream(thread, run["run_id"], cancel_on_disconnect=False, last_event_id="-1")
    assert [(part.event, part.data) async for part in joined] == [(part.event, part.data) for part in parts]

    # PATCH /threads/{id}, right after the run was made; POST …/cancel: stop
    waiting = await client.runs.create(thread, "lead_agent", input=said(f"wait:{gate}"), **posted)
    patched = await client.threads.update(thread, metadata={"agent_name": "helper"})
    assert patched["metadata"]["agent_name"] == "helper"
    await client.runs.cancel(thread, waiting["run_id"], wait=False, action="interrupt")
    await client.runs.join(thread, waiting["run_id"])
    assert (await client.runs.get(thread, waiting["run_id"]))["status"] == "interrupted"

    # POST and GET /threads/{id}/state: rename, export; neither they nor what was stopped is forked away
    await client.threads.update_state(thread, {"title": "Tides"})
    await client.runs.wait(thread, "lead_agent", input=said("b"), on_disconnect="continue")
    state: Any = (await client.threads.get_state(thread))["values"]
    assert state["title"] == "Tides"
    assert [m["id"] for m in state["messages"] if m["type"] == "human"] == ["m-a", f"m-wait:{gate}", "m-b"]

    # POST /threads/search: the list of chats
    [found] = await client.threads.search(
        limit=50,
        offset=0,
        sort_by="updated_at",
        sort_order="desc",
        select=["thread_id", "updated_at", "values", "metadata"],
    )
    assert found.keys() == {"thread_id", "updated_at", "values", "metadata"}
    assert (found["values"], found["metadata"]["agent_name"]) == ({"title": "Tides"}, "helper")  # type: ignore[index]
    assert await client.threads.search(limit=50, offset=50) == []

    # What `useStream` asks of an assistant
    assistant = await client.assistants.get("lead_agent")
    assert assistant["graph_id"] == "lead_agent"
    assert (await client.assistants.get_graph("lead_agent", xray=True))["nodes"]
    assert (await client.assistants.get_schemas("lead_agent"))["graph_id"] == "lead_agent"
    assert [one["graph_id"] for one in await client.assistants.search(graph_id="other")] == ["other"]

    # DELETE /threads/{id}, twice
    for _ in range(2):
        await client.threads.delete(thread)
    with pytest.raises(NotFoundError):
        await client.threads.get(thread)


async def test_the_calls_of_a_channel(api: Api, tmp_path: Path) -> None:
    """'Channels': `config` and `context` together, and 409 for a chat that is busy; and the row `GET /api/models`.

    N1, H1, 6.3 'internal calls acted as "default"': their token is a key, and whose it is, no header changes.
    """
    told = {"X-CSRF-Token": "c", "Cookie": "csrf_token=c", "X-DeerFlow-Owner-User-Id": "bob"}
    http, sdk = (api.client(**{"X-DeerFlow-Internal-Token": api.secrets["ann"], **told}) for _ in range(2))
    sdk.base_url = "http://127.0.0.1:2024/api/langgraph"
    client = LangGraphClient(sdk)
    wrong = api.client(**{"X-DeerFlow-Internal-Token": "wrong", **told})
    for path in ("/api/models", "/api/memory", "/api/langgraph/threads/search"):
        assert (await wrong.post(path, json={})).status_code == 401
    assert (await http.post("/threads/search", json={})).status_code == 401  # it is of the dialect
    assert (await http.get("/api/memory")).json()["facts"] == []
    model = {
        "name": "fast",
        "model": "openai:gpt-5-mini",
        "display_name": None,
        "description": None,
        "supports_thinking": False,
        "supports_reasoning_effort": False,
    }
    models = (await http.get("/api/models")).json()
    assert models == {"models": [model], "token_usage": {"enabled": False}}
    assert (await http.get("/api/models/fast")).json() == model
    unknown = await http.get("/api/models/x")
    assert (unknown.status_code, unknown.json()) == (404, {"detail": "Model 'x' not found"})
    thread = (await client.threads.create())["thread_id"]

    def asked(text: str) -> dict[str, Any]:
        return {
            "input": {"messages": [{"role": "human", "content": text}]},
            "config": {"recursion_limit": 100, "configurable": {"checkpoint_ns": "", "thread_id": thread}},
            "context": {
                "thinking_enabled": True,
                "is_plan_mode": False,
                "subagent_enabled": False,
                "thread_id": thread,
                "user_id": "telegram-7",
                "channel_user_id": "7",
                "agent_name": "helper",
            },
            "multitask_strategy": "reject",
        }

    values: Any = await client.runs.wait(thread, "lead_agent", **asked("a"))
    assert [message["content"] for message in values["messages"]] == ["a", "answer to a"]
    context = values["told"]["context"]
    assert (context["channel_user_id"], context["agent_name"], context["thread_id"]) == (
        "7",
        "helper",
        thread,
    )
    assert context["user_id"] == "ann"
    assert (await api.client("ann").get(f"/threads/{thread}")).status_code == 200
    stream = client.runs.stream(thread, "lead_agent", stream_mode=["messages-tuple", "values"], **asked("b"))
    assert {"messages", "values"} <= {part.event async for part in stream}
    gate = tmp_path / "gate"
    busy = await client.runs.create(thread, "lead_agent", **asked(f"wait:{gate}"))
    with pytest.raises(ConflictError, match="already running a task"):
        await client.runs.create(thread, "lead_agent", **asked("c"))
    gate.touch()
    await asyncio.wait_for(client.runs.join(thread, busy["run_id"]), 15)
