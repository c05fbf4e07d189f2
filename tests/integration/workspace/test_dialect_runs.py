"""Runs in the gateway dialect: the lines G1 to G8, L1, L2, X1 to X4, S11 to S13, W5, W6 and H1 of the study."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from support.api import Api

from slackwater.identity.scopes import KeyScope
from slackwater.identity.stored_keys import service as keys

PROJECT = Path(__file__).parent / "dialect"

COUNTERS = [
    "total_input_tokens", "total_output_tokens", "total_tokens", "llm_call_count", "lead_agent_tokens",
    "subagent_tokens", "middleware_tokens", "message_count",
]  # fmt: skip


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


def said(text: str, **more: Any) -> dict[str, Any]:
    """What the page posts."""
    message = {"type": "human", "content": [{"type": "text", "text": text}], "id": f"m-{text}"}
    return {
        "assistant_id": "lead_agent",
        "input": {
            "messages": [{**message, "additional_kwargs": {"files": [{"filename": "a.txt", "size": 1}]}}]
        },
        "config": {"recursion_limit": 1000},
        "context": {"thinking_enabled": False, "mode": "flash"},
        "stream_mode": ["messages-tuple", "values", "updates", "custom", "events"],
        "stream_subgraphs": True,
        "stream_resumable": True,
        "on_disconnect": "continue",
        **more,
    }


def events(text: str) -> list[tuple[str, Any]]:
    """The events of a stream, without heartbeats."""
    found = []
    for frame in text.replace("\r\n", "\n").split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in frame.split("\n") if not line.startswith(":") and ": " in line
        )
        if "event" in fields:
            found.append((fields["event"], json.loads(fields["data"])))
    return found


async def test_what_the_page_posts_is_streamed(ann: httpx.AsyncClient) -> None:
    """L1, G2, S11, S13; section 4, 'The run that is posted'."""
    thread = str(uuid4())
    answer = await ann.post(f"/api/langgraph/threads/{thread}/runs/stream", json=said("a"))
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (
        200,
        "text/event-stream",
    )
    run = answer.headers["content-location"].rpartition("/")[2]
    assert answer.headers["content-location"] == f"/api/threads/{thread}/runs/{run}"
    assert answer.headers["location"].startswith(f"/threads/{thread}/runs/{run}/stream")
    found = events(answer.text)
    kinds = {name for name, _ in found}
    assert {"metadata", "values", "updates"} <= kinds
    assert not [
        name for name, _ in found if name.startswith("events")
    ]  # most of a stream, and nobody reads it
    state = [data for name, data in found if name == "values"][-1]
    human, ai = state["messages"]
    assert (human["id"], human["additional_kwargs"]["files"][0]["size"], ai["content"]) == (
        "m-a",
        1,
        "answer to a",
    )
    [row] = (await ann.get(f"/api/threads/{thread}/runs?limit=10&offset=0")).json()
    assert list(row) == [
        "run_id", "thread_id", "assistant_id", "status", "metadata", "kwargs", "multitask_strategy", "created_at",
        "updated_at", *COUNTERS,
    ]  # fmt: skip
    assert (row["run_id"], row["assistant_id"], row["status"]) == (run, "lead_agent", "success")
    assert (set(row["kwargs"]), row["multitask_strategy"]) == ({"input", "config"}, "reject")
    assert row["kwargs"]["config"]["recursion_limit"] == 1000
    assert (await ann.get(f"/api/threads/{thread}")).json()["status"] == "idle"
    again = await ann.get(
        f"/api/threads/{thread}/runs/{run}/stream?cancel_on_disconnect=0", headers={"last-event-id": "-1"}
    )
    assert events(again.text) == found
    assert again.headers["content-location"] == f"/api/threads/{thread}/runs/{run}"
    official = await ann.get(f"/threads/{thread}/runs/{run}/stream", headers={"last-event-id": "-1"})
    assert official.headers["content-location"] == f"/threads/{thread}/runs/{run}"


async def test_events_are_for_who_can_use_them(ann: httpx.AsyncClient) -> None:
    """Section 4, 'Events that are used': the page waits for one of them while it makes an agent."""
    for asked in (
        said("a", context={"is_bootstrap": True}),
        said("a", stream_mode=["events"]),
    ):
        answer = await ann.post(f"/api/threads/{uuid4()}/runs/stream", json=asked)
        assert "events" in {name for name, _ in events(answer.text)}


async def told(client: httpx.AsyncClient, body: dict[str, Any], path: str = "") -> dict[str, Any]:
    """What a node has been told of its run."""
    answer = await client.post(path or f"/api/threads/{uuid4()}/runs/wait", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["told"]
    return found


async def test_a_run_knows_who_it_works_for_and_as_which_agent(ann: httpx.AsyncClient) -> None:
    """G1, G3, G5 to G8, W5."""
    human = {"messages": [{"role": "user", "content": "a"}]}
    plain = await told(ann, {"input": human})  # neither context nor config, nor an assistant
    assert (plain["context"]["user_id"], plain["context"]["seen"]) == ("ann", True)
    assert {"thread_id", "run_id"} <= set(plain["context"]) & set(plain["configurable"])
    assert "agent_name" not in plain["context"]

    both = await told(
        ann,
        {
            "assistant_id": "My_Agent ",
            "input": human,
            "stream_mode": [],
            "config": {
                "configurable": {"mode": "pro", "checkpoint_ns": "", "user_id": "bob"},
                "recursion_limit": 5,
            },
            "context": {
                "mode": "flash",
                "is_plan_mode": True,
                "user_id": "bob",
                "run_id": "x",
                "thread_id": "y",
            },
        },
    )
    context, configurable = both["context"], both["configurable"]
    assert (context["mode"], configurable["mode"]) == ("flash", "pro")
    assert (context["is_plan_mode"], configurable["is_plan_mode"]) == (True, True)
    assert (context["agent_name"], configurable["agent_name"]) == ("my-agent", "my-agent")
    assert (context["user_id"], configurable["user_id"]) == ("ann", "ann")
    assert (context["run_id"], context["thread_id"]) == (configurable["run_id"], configurable["thread_id"])
    assert "x" not in (context["run_id"], context["thread_id"])

    wins = await told(
        ann,
        {
            "assistant_id": "other-agent",
            "input": human,
            "config": {"context": {"agent_name": "mine"}, "configurable": {"mode": "pro"}},
            "context": None,
            "stream_mode": None,
        },
    )
    assert (wins["context"]["agent_name"], wins["configurable"]["agent_name"]) == ("mine", "mine")
    assert "mode" not in wins["configurable"]


@pytest.mark.parametrize(
    ("change", "status", "sentence"),
    [
        ({"input": {"messages": [{"type": "human", "content": "a"}, {"type": "nobody", "content": "b"}]}}, 400, "Invalid message at input.messages[1]: "),
        ({"input": {"messages": [{"content": "b"}]}}, 400, "Invalid message at input.messages[0]: "),
        ({"context": {"model_name": "x"}}, 400, "Model 'x' is not in the configured model allowlist"),
        ({"config": {"configurable": {"model_name": 7}}}, 400, "Model '7' is not in the configured model allowlist"),
        ({"config": {"context": "x"}}, 422, "config.context"),
        ({"assistant_id": "../x"}, 400, "Invalid assistant_id"),
        ({"stream_mode": ["nonsense"]}, 422, "stream_mode"),
        ({"multitask_strategy": "x"}, 422, "multitask_strategy"),
    ],
)  # fmt: skip
async def test_a_run_that_cannot_be_is_refused_and_leaves_nothing(
    ann: httpx.AsyncClient, change: dict[str, Any], status: int, sentence: str
) -> None:
    """G4, G6; the model is checked before the run is admitted: 6.3."""
    thread = str(uuid4())
    await ann.post("/api/threads", json={"thread_id": thread})
    for path in (f"/api/threads/{thread}/runs/stream", "/api/runs/wait", f"/api/threads/{thread}/runs"):
        refused = await ann.post(path, json=said("a", **change))
        assert (refused.status_code, sentence in refused.json()["detail"]) == (status, True), refused.text
    assert (await ann.get(f"/api/threads/{thread}/runs")).json() == []
    fine = await ann.post(f"/api/threads/{thread}/runs/wait", json=said("a", context={"model_name": "fast"}))
    assert fine.status_code == 200  # no phantom holds the thread


async def test_a_run_is_cancelled_once_and_again(ann: httpx.AsyncClient, tmp_path: Path) -> None:
    """L2, X1 to X4, and 6.2, line 5: GET does not cancel."""
    thread, gate = str(uuid4()), tmp_path / "gate"
    started = await ann.post(f"/api/threads/{thread}/runs", json=said(f"wait:{gate}"))
    run = started.json()["run_id"]
    assert started.headers["content-location"] == f"/api/threads/{thread}/runs/{run}"
    busy = await ann.post(f"/api/threads/{thread}/runs/stream", json=said("b"))
    assert (busy.status_code, "already running a task" in busy.json()["detail"]) == (409, True)
    path = f"/api/threads/{thread}/runs/{run}"
    by_get = await ann.get(f"{path}/stream?action=interrupt")
    assert (by_get.status_code, by_get.headers["allow"], "POST" in by_get.text) == (405, "POST", True)
    assert (await ann.get(path)).json()["status"] in ("pending", "running")
    stopped = await ann.post(f"{path}/cancel?wait=1&action=interrupt")
    assert (stopped.status_code, stopped.content) == (204, b"")
    assert (await ann.get(path)).json()["status"] == "interrupted"
    assert (await ann.get(f"/api/threads/{thread}")).json()["status"] == "idle"
    assert await statuses(ann) == {"idle": [thread], "interrupted": [], "error": [], "busy": []}
    assert (await ann.get(f"/threads/{thread}")).json()["status"] == "interrupted"
    again = await ann.post(f"{path}/cancel?wait=0&action=interrupt")
    assert (again.status_code, again.content) == (202, b"")
    assert (await ann.post(f"{path}/cancel?wait=true")).status_code == 204
    assert (await ann.post(f"{path}/stream?action=interrupt")).status_code == 200
    assert (await ann.post(f"{path}/stream?action=interrupt&wait=1")).status_code == 204
    assert (await ann.post(f"{path}/cancel?action=nonsense")).status_code == 422
    assert (await ann.post(f"/api/threads/{thread}/runs/{uuid4()}/cancel")).status_code == 404
    assert (await ann.get(f"/api/threads/{thread}/runs/{uuid4()}/stream")).status_code == 404
    assert (await ann.get(f"/api/threads/{thread}/runs/{uuid4()}/join")).status_code == 404
    # What was stopped is still there for the next message.
    await ann.post(f"/api/threads/{thread}/runs/wait", json=said("b"))
    state = (await ann.get(f"/api/threads/{thread}/state")).json()["values"]
    assert state["messages"][-1]["content"] == "answer to b"
    done = (await ann.get(f"/api/threads/{thread}/runs")).json()[0]["run_id"]
    ended = await ann.post(f"/api/threads/{thread}/runs/{done}/cancel")
    assert (ended.status_code, "not cancellable (status: success)" in ended.json()["detail"]) == (409, True)


async def statuses(client: httpx.AsyncClient) -> dict[str, list[str]]:
    """The threads that a search finds by each status; they are shown with the same."""
    found: dict[str, list[str]] = {}
    for status in ("idle", "interrupted", "error", "busy"):
        rows = (await client.post("/api/threads/search", json={"status": status})).json()
        assert {row["status"] for row in rows} <= {status}
        found[status] = [row["thread_id"] for row in rows]
    every = (await client.post("/api/threads/search", json={"sort_by": "status"})).json()
    assert len(every) == sum(map(len, found.values()))
    return found


async def test_a_failed_run_says_so(ann: httpx.AsyncClient) -> None:
    """S12; section 7, 'runs/wait'."""
    thread = str(uuid4())
    streamed = events((await ann.post(f"/api/threads/{thread}/runs/stream", json=said("fail"))).text)
    assert [data["message"] for name, data in streamed if name == "error"] == ["the tide is out"]
    waited = await ann.post(f"/api/threads/{thread}/runs/wait", json=said("fail"))
    assert (waited.status_code, set(waited.json()["__error__"]) >= {"error", "message"}) == (200, True)


async def test_runs_without_a_thread_reach_only_one_s_own(
    ann: httpx.AsyncClient, bob: httpx.AsyncClient
) -> None:
    """H1 and 1.14; the reads of foreign runs."""
    thread = str(uuid4())
    await ann.post(f"/api/threads/{thread}/runs/wait", json=said("secret"))
    [run] = (await ann.get(f"/api/threads/{thread}/runs")).json()
    named = said("b", config={"configurable": {"thread_id": thread}})
    for path in ("/api/runs/stream", "/api/runs/wait", f"/api/threads/{thread}/runs/wait"):
        refused = await bob.post(path, json=named)
        assert (refused.status_code, "secret" in refused.text) == (404, False), path
    for path in ("", f"/{run['run_id']}", f"/{run['run_id']}/stream", f"/{run['run_id']}/join"):
        assert (await bob.get(f"/api/threads/{thread}/runs{path}")).status_code == 404, path
    assert (await bob.post(f"/api/threads/{thread}/runs/{run['run_id']}/cancel")).status_code == 404
    mine = await ann.post("/api/runs/wait", json=named)
    assert [m["content"] for m in mine.json()["messages"]][-1] == "answer to b"
    alone = await ann.post("/api/runs/stream", json=said("c", config={"configurable": None}))
    assert alone.status_code == 200
    assert alone.headers["content-location"].startswith("/api/threads/")
    assert [data for name, data in events(alone.text) if name == "values"][-1]["messages"][-1][
        "content"
    ] == "answer to c"


async def test_the_list_of_runs_is_newest_first_and_bounded(ann: httpx.AsyncClient) -> None:
    """Row `GET /threads/{id}/runs`."""
    thread = str(uuid4())
    made = [
        (await ann.post(f"/api/threads/{thread}/runs", json=said("a", multitask_strategy="enqueue"))).json()[
            "run_id"
        ]
        for _ in range(3)
    ]
    listed = (await ann.get(f"/api/threads/{thread}/runs")).json()
    assert [row["run_id"] for row in listed] == made[::-1]
    page = (await ann.get(f"/api/threads/{thread}/runs?limit=1&offset=1")).json()
    assert [row["run_id"] for row in page] == [made[1]]
    assert (await ann.get(f"/api/threads/{thread}/runs?limit=101")).status_code == 422
    await asyncio.gather(*(ann.get(f"/api/threads/{thread}/runs/{run}/join") for run in made))


async def test_assistants_are_found_by_their_graph(ann: httpx.AsyncClient) -> None:
    """1.18, assistants: what `useStream` asks for."""
    found = (await ann.post("/api/assistants/search", json={})).json()
    assert {row["graph_id"] for row in found} == {"lead_agent", "other"}
    [one] = (
        await ann.post("/api/assistants/search", json={"graph_id": "lead_agent", "metadata": None})
    ).json()
    for name in ("lead_agent", one["assistant_id"]):
        assert (await ann.get(f"/api/assistants/{name}")).json()["assistant_id"] == one["assistant_id"]
        for xray in ("", "?xray=true", "?xray=1"):
            assert (await ann.get(f"/api/assistants/{name}/graph{xray}")).json()["nodes"]
        assert (await ann.get(f"/api/assistants/{name}/schemas")).json()["graph_id"] == "lead_agent"
    page = await ann.post(
        "/api/assistants/search",
        json={
            "metadata": {"created_by": "system"},
            "limit": 1,
            "sort_by": "graph_id",
            "sort_order": "asc",
            "select": ["graph_id"],
        },
    )
    assert (page.json(), page.headers["x-pagination-next"]) == ([{"graph_id": "lead_agent"}], "1")
    assert (await ann.post("/api/assistants/search", json={"metadata": {"a": "b"}})).json() == []
    assert (await ann.get("/api/assistants/nothing")).status_code == 404
    assert (await ann.get(f"/api/assistants/{uuid4()}")).status_code == 404


async def test_what_a_graph_says_has_failed_is_an_error_here_and_a_success_there(
    ann: httpx.AsyncClient,
) -> None:
    """W6; section 6: a model that fails does not fail the graph."""
    thread = str(uuid4())
    for text, status in (("a", "idle"), ("fallback", "error"), ("b", "idle")):
        await ann.post(f"/api/threads/{thread}/runs/wait", json=said(text))
        assert (await ann.get(f"/api/threads/{thread}")).json()["status"] == status
        assert (await statuses(ann))[status] == [thread]
        assert (await ann.get(f"/threads/{thread}")).json()["status"] == "idle"
    rows = (await ann.get(f"/api/threads/{thread}/runs")).json()
    assert [row["status"] for row in rows] == ["success", "error", "success"]
    assert [row.get("error") for row in rows] == [None, "the model is away", None]
    one = (await ann.get(f"/api/threads/{thread}/runs/{rows[1]['run_id']}")).json()
    assert (one["status"], one["error"]) == ("error", "the model is away")
    official = (await ann.get(f"/threads/{thread}/runs/{rows[1]['run_id']}")).json()
    assert official["status"] == "success"


async def test_a_run_is_undone_by_a_rollback(ann: httpx.AsyncClient, tmp_path: Path) -> None:
    """L3, but for the run: as everywhere here it is gone, and not an error."""
    thread = str(uuid4())
    await ann.post(f"/api/threads/{thread}/runs/wait", json=said("before"))
    await ann.post(f"/api/threads/{thread}/state", json={"values": {"title": "before"}})
    before = (await ann.get(f"/api/threads/{thread}/state")).json()["values"]
    made = await ann.post(f"/api/threads/{thread}/runs", json=said(f"wait:{tmp_path / 'gate'}"))
    path = f"/api/threads/{thread}/runs/{made.json()['run_id']}"
    assert (await ann.post(f"{path}/cancel?wait=true&action=rollback")).status_code == 204
    assert (await ann.get(f"/api/threads/{thread}/state")).json()["values"] == before
    assert (await ann.get(path)).status_code == 404


async def test_only_who_may_cancel_does_so_by_the_stream(serve: Callable[..., Any], tmp_path: Path) -> None:
    """6.2, line 5: a stream with `action` needs more than a stream; H6 of another kind: no cancel without the permission."""
    async with serve(project=PROJECT, gateway=True, database_keys=True, names=("ann",)) as api:
        secret, _ = await keys.create(api.database, "ann", (KeyScope.READ,))
        ann, reader = api.client("ann"), api.client(**{"x-api-key": secret})
        thread, gate = str(uuid4()), tmp_path / "gate"
        run = (await ann.post(f"/api/threads/{thread}/runs", json=said(f"wait:{gate}"))).json()["run_id"]
        path = f"/api/threads/{thread}/runs/{run}"
        assert (await reader.get(path)).status_code == 200
        for refused in (
            reader.post(f"{path}/stream?action=interrupt"),
            reader.post(f"{path}/cancel"),
            reader.get(f"{path}/stream?cancel_on_disconnect=1"),
            reader.get(f"{path}/join?cancel_on_disconnect=true"),
        ):
            assert (await refused).status_code == 403
        gate.touch()
        joined = events((await reader.post(f"{path}/stream", headers={"last-event-id": "-1"})).text)
        assert joined[0][0] == "metadata"
        assert (await ann.get(path)).json()["status"] == "success"
