"""Feedback and token usage over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from support.api import Api

from slackwater.owners.erase import erase
from slackwater.workspace.usage.service import counters


@pytest.fixture
async def api(serve: Callable[..., Any]) -> AsyncIterator[Api]:
    async with serve(gateway=True, names=("alice", "bob")) as api:
        yield api


async def talk(client: httpx.AsyncClient) -> tuple[str, str]:
    """A run of `chat`; its thread and its id."""
    thread_id = (await client.post("/threads", json={})).json()["thread_id"]
    body = {"assistant_id": "chat", "input": {"messages": [{"role": "user", "content": "Hello"}]}}
    (await client.post(f"/threads/{thread_id}/runs/wait", json=body)).raise_for_status()
    return thread_id, (await client.get(f"/threads/{thread_id}/runs")).json()[0]["run_id"]


async def use(api: Api, thread_id: str, run_id: str, model: str, caller: str, **more: Any) -> None:
    row = {
        "owner": "alice",
        "place": 0,
        "task": "",
        "repeated": False,
        "cached_tokens": 0,
        "input_tokens": 1000,
    }
    row |= {"output_tokens": 100, "total_tokens": 1100, "reasoning_tokens": 0, "call_id": uuid4(), **more}
    row |= {"thread_id": thread_id, "run_id": run_id, "model": model, "caller": caller}
    await api.database.execute(
        f"insert into slackwater.token_usage ({', '.join(row)}) values ({', '.join(['%s'] * len(row))})",
        list(row.values()),
    )


async def test_feedback_is_one_for_each_user_run_and_message(api: Api) -> None:
    """B1, P9, I1, and the seed's defect 9: a second POST is no error."""
    alice, bob = api.client("alice"), api.client("bob")
    thread_id, run_id = await talk(alice)
    path = f"/api/threads/{thread_id}/runs/{run_id}/feedback"
    assert (await alice.get(path)).json() == []
    first = (await alice.post(path, json={"rating": 1, "comment": "good"})).json()
    assert first.keys() == {
        *("feedback_id", "run_id", "thread_id", "user_id"),
        *("message_id", "rating", "comment", "created_at"),
    }
    again = await alice.post(path, json={"rating": -1})
    assert again.status_code == 200
    assert (again.json()["feedback_id"], again.json()["rating"], again.json()["comment"]) == (
        first["feedback_id"],
        -1,
        None,
    )
    rows = (await alice.get(f"/api/threads/{thread_id}/messages")).json()
    human = rows[0]["content"]["id"]
    await alice.put(path, json={"rating": 1, "message_id": human})
    assert sorted(row["rating"] for row in (await alice.get(path)).json()) == [-1, 1]
    assert (await alice.get(f"{path}/stats")).json() == {
        "run_id": run_id,
        "total": 2,
        "positive": 1,
        "negative": 1,
    }
    shown = (await alice.get(f"/api/threads/{thread_id}/messages")).json()
    assert [row["feedback"]["rating"] for row in shown] == [1, -1]
    assert (await alice.get(f"/api/runs/{run_id}/feedback")).json() == (await alice.get(path)).json()
    for rating in (0, 2, -2):
        assert (await alice.put(path, json={"rating": rating})).status_code == 400
    assert (await alice.put(path, json={"rating": "up"})).status_code == 422
    for answer in (
        await bob.get(path),
        await bob.put(path, json={"rating": 1}),
        await bob.delete(path),
        await bob.get(f"{path}/stats"),
        await bob.get(f"/api/runs/{run_id}/feedback"),
        await bob.delete(f"{path}/{first['feedback_id']}"),
        await alice.put(f"/api/threads/{thread_id}/runs/{uuid4()}/feedback", json={"rating": 1}),
        await alice.get(f"/api/runs/{uuid4()}/feedback"),
    ):
        assert answer.status_code == 404
    assert (await alice.delete(f"{path}/{first['feedback_id']}")).json() == {"success": True}
    assert (await alice.delete(f"{path}/{first['feedback_id']}")).status_code == 404
    assert (await alice.delete(path)).json() == {"success": True}
    assert (await alice.delete(path)).status_code == 404
    await alice.put(path, json={"rating": 1})
    await alice.delete(f"/threads/{thread_id}")
    assert await api.database.fetch("select 1 from slackwater.feedback") == []  # the seed's defect 11


async def test_the_usage_of_a_thread_by_model_and_caller(api: Api) -> None:
    """P12, E13."""
    alice, bob = api.client("alice"), api.client("bob")
    thread_id, run_id = await talk(alice)
    path = f"/api/threads/{thread_id}/token-usage"
    assert (await alice.get(path)).json() == {
        "thread_id": thread_id,
        "total_tokens": 0,
        "total_input_tokens": 0,
        "total_output_tokens": 0,
        "total_runs": 0,
        "by_model": {},
        "by_caller": {"lead_agent": 0, "subagent": 0, "middleware": 0},
    }
    await use(api, thread_id, run_id, "gpt-5-mini", "lead_agent")
    await use(api, thread_id, run_id, "gpt-5-mini", "subagent:search", repeated=True)
    await use(api, thread_id, run_id, "tiny", "middleware:title", total_tokens=7)
    await use(
        api, thread_id, str(uuid4()), "tiny", "lead_agent", total_tokens=1
    )  # of a run that was rolled back
    waiting = await alice.post(
        f"/threads/{thread_id}/runs", json={"assistant_id": "chat", "input": {}, "after_seconds": 3600}
    )
    await use(api, thread_id, waiting.json()["run_id"], "tiny", "lead_agent", total_tokens=2)
    used = (await alice.get(path)).json()
    assert (used["total_tokens"], used["total_runs"]) == (2208, 2)
    assert used["by_model"] == {
        "gpt-5-mini": {"tokens": 2200, "runs": 1},
        "tiny": {"tokens": 8, "runs": 2},
    }
    assert used["by_caller"] == {"lead_agent": 1101, "subagent": 1100, "middleware": 7}
    active = (await alice.get(path, params={"include_active": "true"})).json()
    assert (active["total_tokens"], active["total_runs"]) == (2210, 3)
    assert (await bob.get(path)).status_code == 404
    assert (await alice.get(f"/api/threads/{uuid4()}/token-usage")).status_code == 404
    assert await counters(api.database, [UUID(run_id)]) == {
        UUID(run_id): {
            "total_input_tokens": 3000,
            "total_output_tokens": 300,
            "total_tokens": 2207,
            "llm_call_count": 3,
            "lead_agent_tokens": 1100,
            "subagent_tokens": 1100,
            "middleware_tokens": 7,
            "message_count": 2,
        }
    }
    mine = (await alice.get("/api/usage", params={"days": 1})).json()
    assert mine["total_tokens"] == 2210
    (priced, free) = mine["data"]
    assert (priced["model"], priced["calls"], priced["repeated_tokens"]) == ("gpt-5-mini", 2, 1100)
    assert 0 < priced["cost"] < 0.01
    assert (free["model"], free["cost"]) == ("tiny", None)
    assert (await bob.get("/api/usage")).json()["data"] == []
    assert (await alice.get("/api/usage", params={"days": 0})).status_code == 422


async def test_nothing_of_an_owner_is_left(api: Api) -> None:
    alice = api.client("alice")
    thread_id, run_id = await talk(alice)
    await use(api, thread_id, run_id, "tiny", "lead_agent")
    await alice.put(f"/api/threads/{thread_id}/runs/{run_id}/feedback", json={"rating": 1})
    await erase(api.database, "alice")
    for table in ("messages", "token_usage", "feedback"):
        assert await api.database.fetch(f"select 1 from slackwater.{table}") == []


async def test_the_runs_of_the_dialect_show_what_they_have_used(api: Api) -> None:
    """The token counters of seed 1.13, alone and in the list."""
    alice = api.client("alice")
    thread_id, run_id = await talk(alice)
    await use(api, thread_id, run_id, "fast", "lead_agent")
    await use(api, thread_id, run_id, "fast", "subagent:search")
    await use(api, thread_id, run_id, "slow", "middleware:title")
    (shown,) = (await alice.get(f"/api/threads/{thread_id}/runs")).json()
    counted = {
        "total_input_tokens": 3000,
        "total_output_tokens": 300,
        "total_tokens": 3300,
        "lead_agent_tokens": 1100,
        "subagent_tokens": 1100,
        "middleware_tokens": 1100,
        "message_count": 2,
    }
    assert {name: shown[name] for name in counted} == counted
    assert (await alice.get(f"/api/threads/{thread_id}/runs/{run_id}")).json() == shown
