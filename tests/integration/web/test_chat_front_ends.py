"""The calls of agent chat front ends, replayed: what their pages send, and what they look for in the answers.

Read in their sources: agent-chat-ui and the agent inbox (`useStream`), assistant-ui's LangGraph runtime, and the AG-UI agent that CopilotKit uses.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest

PAGE = "https://chat.example.org"


@dataclass
class Page:
    """A page of another origin, in a browser that asks before it sends."""

    http: httpx.AsyncClient

    async def ask(self, method: str, path: str, body: object = None, **headers: str) -> httpx.Response:
        """One `fetch`; the answer has to be readable."""
        names = sorted({"content-type", "x-api-key", *headers})
        preflight = await self.http.options(
            path,
            headers={
                "origin": PAGE,
                "access-control-request-method": method,
                "access-control-request-headers": ",".join(names),
            },
        )
        assert preflight.status_code == 200
        allowed = preflight.headers["access-control-allow-headers"].lower().replace(" ", "").split(",")
        assert set(names) <= set(allowed)
        assert method in preflight.headers["access-control-allow-methods"].split(", ")
        answer = await self.http.request(method, path, json=body, headers={"origin": PAGE, **headers})
        assert answer.headers["access-control-allow-origin"] in ("*", PAGE)
        exposed = answer.headers["access-control-expose-headers"].lower()
        assert {"content-location", "location"} <= set(exposed.replace(" ", "").split(","))
        return answer

    async def json(self, method: str, path: str, body: object = None) -> Any:
        answer = await self.ask(method, path, body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def stream(self, thread: str, **body: Any) -> list[tuple[str, Any]]:
        """Start a run and read it: names and data of its events."""
        answer = await self.ask("POST", f"/threads/{thread}/runs/stream", body)
        assert answer.status_code == 200, answer.text
        return events(answer.text)


def events(text: str) -> list[tuple[str, Any]]:
    found = []
    for block in text.split("\r\n\r\n"):
        fields = dict(
            line.split(": ", 1) for line in block.split("\r\n") if line and not line.startswith(":")
        )
        if "event" in fields:
            found.append((fields["event"], json.loads(fields["data"])))
    return found


def of(parts: list[tuple[str, Any]], *names: str) -> list[Any]:
    return [data for name, data in parts if name.partition("|")[0] in names]


def texts(values: Any) -> list[str]:
    return [
        part["text"] if isinstance(part, dict) else part
        for message in values["messages"]
        for part in (message["content"] if isinstance(message["content"], list) else [message["content"]])
    ]


@pytest.fixture
async def page(serve: Callable[..., Any]) -> AsyncIterator[Page]:
    async with serve(names=("maria",)) as api:
        yield Page(api.client("maria"))


def human(text: str) -> dict[str, Any]:
    return {"id": str(uuid4()), "type": "human", "content": [{"type": "text", "text": text}]}


MODES = ["values", "messages-tuple", "updates", "custom"]


async def test_agent_chat_ui(page: Page) -> None:
    # The page opens
    assert (await page.ask("GET", "/info")).status_code == 200
    assert await page.json("POST", "/threads/search", {"metadata": {"graph_id": "chat"}, "limit": 100}) == []

    # A first message makes a thread
    thread = (await page.json("POST", "/threads", {"metadata": {}}))["thread_id"]
    asked = {
        "input": {"messages": [human("one two")]},
        "stream_mode": MODES,
        "stream_subgraphs": True,
        "stream_resumable": True,
        "on_disconnect": "continue",
        "assistant_id": "chat",
    }
    answer = await page.ask("POST", f"/threads/{thread}/runs/stream", asked)
    assert answer.headers["content-location"].startswith(f"/threads/{thread}/runs/")
    parts = events(answer.text)
    assert parts[0][0] == "metadata"
    run = parts[0][1]["run_id"]
    assert "".join(chunk["content"] for chunk, _ in of(parts, "messages")) == (
        "You said: [{'text': 'one two', 'type': 'text'}]"
    )
    last = of(parts, "values")[-1]
    assert [message["type"] for message in last["messages"]] == ["human", "ai"]
    # The list of threads has it, with its first message
    (found,) = await page.json("POST", "/threads/search", {"metadata": {"graph_id": "chat"}, "limit": 100})
    assert found["thread_id"] == thread
    assert texts(found["values"])[0] == "one two"
    # and a reload reads the run again
    again = await page.ask(
        "GET",
        f"/threads/{thread}/runs/{run}/stream?stream_mode=%5B%22values%22%5D&cancel_on_disconnect=0",
        **{"last-event-id": "-1"},
    )
    assert of(events(again.text), "values")[-1] == last

    # The past, of which the page makes branches
    history = await page.json("POST", f"/threads/{thread}/history", {"limit": 1000})
    assert [state["next"] for state in history] == [[], ["model"], ["__start__"]]
    before_answer, before_question = history[1]["checkpoint"], history[2]["checkpoint"]
    # Regenerate: the same question once more; useStream leaves the thread's id out
    before_answer.pop("thread_id")
    parts = await page.stream(thread, checkpoint=before_answer, stream_mode=["values"], assistant_id="chat")
    regenerated = of(parts, "values")[-1]
    assert texts(regenerated)[0] == "one two"
    assert regenerated["messages"][1]["id"] != last["messages"][1]["id"]
    # Edit: another question instead
    before_question.pop("thread_id")
    parts = await page.stream(
        thread,
        input={"messages": [human("three")]},
        checkpoint=before_question,
        stream_mode=["values"],
        assistant_id="chat",
    )
    assert texts(of(parts, "values")[-1])[0] == "three"
    branches = await page.json("POST", f"/threads/{thread}/history", {"limit": 1000})
    heads = [state for state in branches if not state["next"]]
    assert [texts(state["values"])[0] for state in heads] == ["three", "one two", "one two"]
    children = [
        state["parent_checkpoint"] and state["parent_checkpoint"]["checkpoint_id"] for state in branches
    ]
    assert children.count(before_answer["checkpoint_id"]) == 2

    # A name for it, and away with it
    assert (
        await page.ask("PATCH", f"/threads/{thread}", {"metadata": {"title": "Numbers"}})
    ).status_code == 200
    titled = await page.json("POST", "/threads/search", {"metadata": {"title": "Numbers"}, "limit": 1})
    assert [row["thread_id"] for row in titled] == [thread]
    assert (await page.ask("DELETE", f"/threads/{thread}")).status_code == 204


async def test_what_people_are_asked_and_what_they_stop(page: Page) -> None:
    thread = (await page.json("POST", "/threads", {}))["thread_id"]
    # GIVEN a question to a person, seen in the stream, in the state and in the list of what waits
    parts = await page.stream(
        thread, assistant_id="hitl", input={"text": "x", "questions": 2}, stream_mode=MODES
    )
    (first,) = of(parts, "values")[-1]["__interrupt__"]
    assert first["value"] == {"question": "approve x?", "n": 0}
    state = await page.json("GET", f"/threads/{thread}/state")
    assert [i["id"] for task in state["tasks"] for i in task["interrupts"]] == [first["id"]]
    (waiting,) = await page.json("POST", "/threads/search", {"status": "interrupted", "limit": 10})
    assert [i["value"] for found in waiting["interrupts"].values() for i in found] == [first["value"]]

    # WHEN it is answered as an inbox does, and then by the id of the question
    parts = await page.stream(
        thread,
        assistant_id="hitl",
        input=None,
        command={"resume": [{"type": "response", "args": "yes"}]},
        stream_mode=["values"],
    )
    (second,) = of(parts, "values")[-1]["__interrupt__"]
    parts = await page.stream(
        thread, assistant_id="hitl", command={"resume": {second["id"]: "no"}}, stream_mode=["values"]
    )
    assert of(parts, "values")[-1]["answers"] == [[{"type": "response", "args": "yes"}], "no"]

    # WHEN the next one is marked as resolved
    await page.stream(thread, assistant_id="hitl", input={"text": "y"}, stream_mode=["values"])
    await page.json("POST", f"/threads/{thread}/state", {"values": None, "as_node": "__end__"})
    assert (await page.json("GET", f"/threads/{thread}"))["status"] == "idle"

    # WHEN a run is stopped
    running = asyncio.create_task(
        page.ask(
            "POST",
            f"/threads/{thread}/runs/stream",
            {"assistant_id": "steps", "input": {"n": 100, "sleep": 0.1}, "on_disconnect": "cancel"},
        )
    )
    while not (runs := await page.json("GET", f"/threads/{thread}/runs?limit=1&status=running")):
        await asyncio.sleep(0.02)
    stopped = await page.ask(
        "POST", f"/threads/{thread}/runs/{runs[0]['run_id']}/cancel?wait=0&action=interrupt"
    )
    assert stopped.status_code == 202
    assert events((await running).text)[0][0] == "metadata"
    assert (await page.json("GET", f"/threads/{thread}/runs/{runs[0]['run_id']}"))["status"] == "interrupted"


async def test_assistant_ui(page: Page) -> None:
    assistant = await page.json("POST", "/assistants", {"graph_id": "tools"})
    thread = (await page.json("POST", "/threads", {}))["thread_id"]
    config = {"configurable": {"model_name": "openai"}}
    parts = await page.stream(
        thread,
        assistant_id=assistant["assistant_id"],
        input={"messages": [{"type": "human", "content": "add 2 3"}]},
        config=config,
        stream_mode="messages-tuple",
    )
    chunks = [chunk for chunk, _ in of(parts, "messages")]
    calls = [call for chunk in chunks for call in chunk.get("tool_call_chunks") or []]
    assert json.loads("".join(call["args"] for call in calls)) == {"a": 2, "b": 3}
    assert [chunk["content"] for chunk in chunks if chunk["type"] == "tool"] == ["5"]
    state = await page.json("GET", f"/threads/{thread}/state")
    assert [message["type"] for message in state["values"]["messages"]] == ["human", "ai", "tool", "ai"]

    # A tool whose answer the page gives: written as the node that would have
    history = await page.json("POST", f"/threads/{thread}/history", {"limit": 10})
    called = next(state for state in history if state["next"] == ["tools"])
    call = called["values"]["messages"][-1]["tool_calls"][0]
    given = {"type": "tool", "content": "7", "name": "add", "tool_call_id": call["id"]}
    forked = await page.json(
        "POST",
        f"/threads/{thread}/state",
        {"values": {"messages": [given]}, "as_node": "tools", "checkpoint_id": called["checkpoint_id"]},
    )
    parts = await page.stream(
        thread,
        assistant_id=assistant["assistant_id"],
        input=None,
        checkpoint_id=forked["checkpoint_id"],
        config=config,
        stream_mode="messages-tuple",
    )
    said = "".join(c["content"] for c, _ in of(parts, "messages") if c["type"] != "tool")
    assert said == "The answer is 7"


async def test_copilotkit(page: Page) -> None:
    # The graph by its name, and a thread whose id is the page's
    (assistant,) = await page.json(
        "POST", "/assistants/search", {"graph_id": "chat", "limit": 1, "offset": 0}
    )
    thread = str(uuid4())
    assert (await page.ask("GET", f"/threads/{thread}")).status_code == 404
    made = await page.json("POST", "/threads", {"thread_id": thread, "metadata": {"page": "home"}})
    assert made["thread_id"] == thread
    state = await page.json("GET", f"/threads/{thread}/state")
    assert (state["values"], state["tasks"]) == ({}, [])
    schemas = await page.json("GET", f"/assistants/{assistant['assistant_id']}/schemas")
    assert {"messages", "delay"} == set(schemas["input_schema"]["properties"])
    assert schemas["output_schema"]["properties"]
    graph = await page.json("GET", f"/assistants/{assistant['assistant_id']}/graph")
    assert {"source": "__start__", "target": "model"} in [
        {"source": edge["source"], "target": edge["target"]} for edge in graph["edges"]
    ]

    # A turn, with its four modes
    question = {"id": str(uuid4()), "role": "user", "type": "human", "content": "one two"}
    asked = {
        "assistant_id": assistant["assistant_id"],
        "stream_mode": ["events", "values", "updates", "messages-tuple"],
        "stream_subgraphs": True,
        "config": {"configurable": {"copilotkit_forwarded_headers": {"x-tenant": "7"}}},
    }
    parts = await page.stream(thread, input={"messages": [question]}, command={}, **asked)
    kinds = {record["event"] for record in of(parts, "events")}
    assert {"on_chain_start", "on_chat_model_stream", "on_chat_model_end", "on_chain_end"} <= kinds
    stream = [record for record in of(parts, "events") if record["event"] == "on_chat_model_stream"]
    assert stream[0]["metadata"]["langgraph_node"] == "model"
    assert stream[0]["metadata"]["run_id"] == parts[0][1]["run_id"]
    assert "".join(chunk["content"] for chunk, _ in of(parts, "messages")) == "You said: one two"
    assert of(parts, "updates")
    assert of(parts, "values")

    # Regenerate: a branch made by an update, and a run from there
    history = await page.json("POST", f"/threads/{thread}/history", {"limit": 1000})
    before = next(state for state in reversed(history) if state["values"].get("messages"))
    fork = await page.json(
        "POST",
        f"/threads/{thread}/state",
        {"values": {"messages": []}, "checkpoint_id": before["checkpoint_id"], "as_node": "__start__"},
    )
    edited = {**question, "content": "three"}
    parts = await page.stream(
        thread, input={"messages": [edited]}, checkpoint_id=fork["checkpoint"]["checkpoint_id"], **asked
    )
    values = await page.json("GET", f"/threads/{thread}/state")
    assert texts(values["values"]) == ["three", "You said: three"]
