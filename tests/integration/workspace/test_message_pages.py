"""Pages of recorded messages over HTTP: whole, in order, and of one's own threads only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from support.api import Api

from slackwater.workspace.messages.queries import _OF_RUN, _OF_THREAD, Cut, page_statement


@pytest.fixture
async def api(serve: Callable[..., Any]) -> AsyncIterator[Api]:
    async with serve(gateway=True, names=("alice", "bob")) as api:
        yield api


async def talk(
    client: httpx.AsyncClient, text: str = "Hello", thread_id: str | None = None
) -> tuple[str, str]:
    """A run of `chat`; its thread and its id."""
    thread_id = thread_id or (await client.post("/threads", json={})).json()["thread_id"]
    body = {"assistant_id": "chat", "input": {"messages": [{"role": "user", "content": text}]}}
    (await client.post(f"/threads/{thread_id}/runs/wait", json=body)).raise_for_status()
    return thread_id, (await client.get(f"/threads/{thread_id}/runs")).json()[0]["run_id"]


async def fill(api: Api, thread_id: str, run_id: str, count: int) -> None:
    await api.database.execute(
        """insert into slackwater.messages (thread_id, seq, run_id, event_type, category, content, metadata)
           select %(thread)s, 10000000 + n, %(run)s, 'llm.ai.response', 'message', jsonb_build_object('id', n, 'type', 'ai'),
             '{"caller": "lead_agent"}' from generate_series(1, %(count)s) n""",
        {"thread": thread_id, "run": run_id, "count": count},
    )


async def test_a_run_has_its_messages_under_the_ids_of_the_state(api: Api) -> None:
    """P1, P10, E1, E2, E4, E5, E16, L1."""
    client = api.client("alice")
    thread_id, run_id = await talk(client)
    page = (await client.get(f"/api/threads/{thread_id}/runs/{run_id}/messages")).json()
    assert page.keys() == {"data", "has_more"}
    assert not page["has_more"]
    assert [row["event_type"] for row in page["data"]] == ["llm.human.input", "llm.ai.response"]
    assert [row["metadata"]["caller"] for row in page["data"]] == ["lead_agent", "lead_agent"]
    state = (await client.get(f"/threads/{thread_id}/state")).json()
    assert [row["content"]["id"] for row in page["data"]] == [
        message["id"] for message in state["values"]["messages"]
    ]
    assert page["data"][0]["created_at"].endswith("+00:00")
    assert (await client.get(f"/api/runs/{run_id}/messages")).json() == page
    _, second = await talk(client, "Again", thread_id)
    whole = (await client.get(f"/api/threads/{thread_id}/messages")).json()
    assert [row["run_id"] for row in whole] == [run_id] * 2 + [second] * 2
    assert [row["seq"] for row in whole] == sorted({row["seq"] for row in whole})
    assert whole[2]["content"]["content"] == "Again"
    events = (await client.get(f"/api/threads/{thread_id}/runs/{run_id}/events")).json()
    assert [row["event_type"] for row in events] == [
        "run.start",
        "llm.human.input",
        "llm.ai.response",
        "run.end",
    ]
    some = await client.get(
        f"/api/threads/{thread_id}/runs/{run_id}/events", params={"event_types": "run.end,run.start"}
    )
    assert [row["event_type"] for row in some.json()] == ["run.start", "run.end"]


async def test_adjacent_pages_lose_and_repeat_nothing_while_rows_are_added(api: Api) -> None:
    """P3, P4, P5, P6, P7, P8, E3."""
    client = api.client("alice")
    thread_id, run_id = await talk(client)
    await fill(api, thread_id, run_id, 11)
    path = f"/api/threads/{thread_id}/runs/{run_id}/messages"
    last = (await client.get(path, params={"limit": 5})).json()
    assert [row["content"]["id"] for row in last["data"]] == [7, 8, 9, 10, 11]
    assert last["has_more"]
    await talk(client, "Meanwhile", thread_id)
    before = (await client.get(path, params={"limit": 5, "before_seq": last["data"][0]["seq"]})).json()
    assert [row["content"]["id"] for row in before["data"]] == [2, 3, 4, 5, 6]
    first = await client.get(path, params={"limit": 5, "before_seq": before["data"][0]["seq"]})
    assert (len(first.json()["data"]), first.json()["has_more"]) == (3, False)
    after = (await client.get(path, params={"limit": 5, "after_seq": before["data"][-1]["seq"]})).json()
    assert after == {"data": last["data"], "has_more": False}
    assert (await client.get(path, params={"limit": 4, "after_seq": 0})).json()["has_more"]
    assert (await client.get(path, params={"after_seq": 2**62})).json() == {"data": [], "has_more": False}
    for wrong in ({"limit": 0}, {"limit": 201}, {"limit": "many"}, {"before_seq": -1}):
        assert (await client.get(path, params=wrong)).status_code == 422
    many = f"/api/threads/{thread_id}/runs/{run_id}/events"
    assert (await client.get(many, params={"limit": 2001})).status_code == 422


async def test_what_is_not_ones_own_is_not_there(api: Api) -> None:
    """P2, I1, and the seed's defect 15."""
    alice, bob = api.client("alice"), api.client("bob")
    thread_id, run_id = await talk(alice)
    other_thread, _ = await talk(alice)
    for path in (
        f"threads/{thread_id}/messages",
        f"threads/{thread_id}/runs/{run_id}/messages",
        f"threads/{thread_id}/runs/{run_id}/events",
        f"runs/{run_id}/messages",
    ):
        assert (await alice.get(f"/api/{path}")).status_code == 200
        assert (await bob.get(f"/api/{path}")).status_code == 404
    for path in (
        f"threads/{other_thread}/runs/{run_id}/messages",
        f"threads/{thread_id}/runs/{uuid4()}/messages",
        f"threads/{thread_id}/runs/{uuid4()}/events",
        f"threads/{uuid4()}/messages",
        f"runs/{uuid4()}/messages",
    ):
        assert (await alice.get(f"/api/{path}")).status_code == 404
    empty = (await alice.post("/threads", json={})).json()["thread_id"]
    await api.database.execute("update slackwater.threads set hidden = true")
    # The thread of a stateless run is in no list, but there.
    for hidden in (empty, thread_id):
        assert (await alice.get(f"/api/threads/{hidden}/messages")).status_code == 200
        assert (await alice.get(f"/api/threads/{hidden}/token-usage")).status_code == 200
    assert (await alice.delete(f"/threads/{thread_id}")).status_code == 204
    left = await api.database.fetch("select 1 from slackwater.messages where thread_id = %s", [thread_id])
    assert left == []  # the seed's defect 11


async def test_a_page_of_a_long_thread_is_found_by_an_index(api: Api) -> None:
    client = api.client("alice")
    thread_id, run_id = await talk(client)
    await fill(api, thread_id, run_id, 100_000)
    await api.database.execute("analyze slackwater.messages")
    for of in (_OF_RUN, _OF_THREAD):
        for cut in (Cut(50), Cut(50, before=10_050_000), Cut(50, after=10_050_000)):
            params = {
                "owner": "alice",
                "thread_id": thread_id,
                "run_id": run_id,
                "limit": 50,
                "before": cut.before,
                "after": cut.after,
            }
            rows = await api.database.fetch(
                f"explain (analyze, format json) {page_statement(of, cut)}", params
            )
            plan = rows[0]["QUERY PLAN"][0]["Plan"]
            assert read(plan) < 200, plan


def read(plan: dict[str, Any]) -> int:
    """How many rows were read of all nodes, those that were thrown away too."""
    own = plan["Actual Rows"] * plan["Actual Loops"] + plan.get("Rows Removed by Filter", 0)
    return int(max([own, *map(read, plan.get("Plans", []))]))
