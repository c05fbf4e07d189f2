"""MCP: what the official client sees, and what it would never send."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from support.api import Api

from slackwater.protocols.mcp import service, tools

Connect = Callable[..., Any]


@pytest.fixture
def connect(api: Api) -> Connect:
    """The official client of the application in this process: `async with connect(mode="auto") as client`."""

    @asynccontextmanager
    async def connect(of: Api = api, name: str | None = None, mode: str = "legacy") -> AsyncIterator[Client]:
        async def with_state(scope: Any, receive: Any, send: Any) -> None:
            await of.app({**scope, "state": dict(of.state)}, receive, send)

        headers = {} if name is None else {"x-api-key": of.secrets[name]}
        transport = httpx2.ASGITransport(with_state)
        async with httpx2.AsyncClient(transport=transport, headers=headers, timeout=15) as http_client:
            url = "http://127.0.0.1:2024/mcp"
            async with Client(streamable_http_client(url, http_client=http_client), mode=mode) as client:
                yield client

    return connect


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_the_official_client_lists_and_calls_tools(connect: Connect, mode: str) -> None:
    async with connect(mode=mode) as client:
        # WHEN it asks for tools
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        # THEN each graph is one
        assert {"echo", "chat", "fail", "hitl"} <= tools.keys()
        assert tools["echo"].input_schema["properties"]["text"] == {"title": "Text", "type": "string"}
        # and what a chat takes is a text
        assert tools["chat"].input_schema["properties"]["messages"]["type"] == "string"
        assert "$defs" not in tools["chat"].input_schema

        # WHEN it calls them, THEN it gets what `/wait` answers, as JSON text and as it is
        answer = await client.call_tool("echo", {"text": "hi"})
        assert answer.structured_content["echo"] == "hi"
        assert json.loads(answer.content[0].text) == answer.structured_content
        assert not answer.is_error
        answer = await client.call_tool("chat", {"messages": "hello"})
        assert [m["content"] for m in answer.structured_content["messages"]] == ["hello", "You said: hello"]
        answer = await client.call_tool("hitl", {"text": "hi"})
        assert answer.structured_content["__interrupt__"][0]["value"]["question"] == "approve hi?"

        # WHEN a run fails, THEN the model is told what the API tells
        answer = await client.call_tool("fail", {"text": "x"})
        assert (answer.is_error, answer.content[0].text) == (True, "ValueError: boom: x")

        # WHEN there is no such tool
        with pytest.raises(MCPError, match="Unknown tool: nope"):
            await client.call_tool("nope", {})


def rpc(method: str, params: Any = None, call_id: Any = 1) -> dict[str, Any]:
    return {
        "jsonrpc": "2.0",
        "id": call_id,
        "method": method,
        **({} if params is None else {"params": params}),
    }


async def test_a_call_is_answered_by_whichever_process(http: httpx.AsyncClient) -> None:
    # GIVEN no session at all
    answer = (await http.post("/mcp", json=rpc("initialize", {"protocolVersion": "2025-06-18"}))).json()
    assert answer["result"]["protocolVersion"] == "2025-06-18"
    assert answer["result"]["capabilities"] == {"tools": {"listChanged": False}}
    # A version that is not spoken, or none: the newest
    for params in ({"protocolVersion": "1999-01-01"}, None):
        answer = (await http.post("/mcp", json=rpc("initialize", params))).json()
        assert answer["result"]["protocolVersion"] == "2025-11-25"
    assert (await http.post("/mcp", json=rpc("ping", call_id="ä"))).json() == {
        "jsonrpc": "2.0",
        "id": "ä",
        "result": {},
    }
    # An older client gets JSON, however long it takes
    call = rpc("tools/call", {"name": "echo", "arguments": {"text": "hi"}})
    told = await http.post("/mcp", json=call, headers={"MCP-Protocol-Version": "2025-06-18"})
    assert told.headers["content-type"] == "application/json"
    assert told.json()["result"]["structuredContent"]["echo"] == "hi"


async def test_the_answer_can_be_fetched_again(api: Api) -> None:
    http = api.client()
    new = {"MCP-Protocol-Version": "2025-11-25", "accept": "application/json, text/event-stream"}
    call = rpc("tools/call", {"name": "echo", "arguments": {"text": "hi"}}, call_id="seven")

    # WHEN a client of the newest version calls, THEN it is told first where the answer will be
    told = await http.post("/mcp", json=call, headers=new)
    first, answer, _ = told.text.replace("\r\n", "\n").split("\n\n")
    event_id = first.removeprefix("id: ").split("\n")[0]
    assert first.endswith("\nretry: 2000\ndata: ")
    # and there is the answer, also for another connection
    again = await http.get("/mcp", headers={**new, "Last-Event-ID": event_id})
    assert again.headers["content-type"].startswith("text/event-stream")
    first_again, answer_again, _ = again.text.replace("\r\n", "\n").split("\n\n")
    assert (first_again, answer_again) == (first, answer)
    assert json.loads(answer.partition("data: ")[2])["id"] == "seven"

    # WHEN the run is long gone, or the id is not ours
    await api.database.execute("delete from slackwater.runs")
    assert (await http.get("/mcp", headers={"Last-Event-ID": event_id})).status_code == 404
    for wrong in ("7", "a:b:c", event_id.rpartition(":")[0] + ":$", event_id + ":"):
        refused = await http.get("/mcp", headers={"Last-Event-ID": wrong})
        assert (refused.status_code, refused.json()["detail"]) == (
            400,
            "Last-Event-ID: was not made by this server",
        )


async def test_a_call_that_is_delivered_twice_runs_once(api: Api) -> None:
    http = api.client()
    call = rpc("tools/call", {"name": "echo", "arguments": {"text": "hi"}})
    answers = [await http.post("/mcp", json=call, headers={"Idempotency-Key": "k"}) for _ in range(2)]

    assert answers[0].json() == answers[1].json()
    assert len(await api.database.fetch("select from slackwater.runs")) == 1


async def test_a_cancelled_run_is_no_result(api: Api) -> None:
    http = api.client()
    call = rpc("tools/call", {"name": "steps", "arguments": {"n": 50, "sleep": 0.1}})

    async def cancel() -> None:
        while not await api.database.fetch("select from slackwater.runs where status = 'running'"):
            await asyncio.sleep(0.02)
        assert (await http.post("/runs/cancel", json={"status": "all"})).status_code == 204

    told, _ = await asyncio.gather(http.post("/mcp", json=call), cancel())
    assert told.json()["result"] == {
        "content": [{"type": "text", "text": "The run was cancelled."}],
        "isError": True,
    }


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b"{", -32700, "The body is not JSON"),
        (b"", -32700, "The body is not JSON"),
        (b"[]", -32600, "The body must be one JSON-RPC 2.0 message: an object with jsonrpc '2.0'"),
        (b'{"id":1,"method":"ping"}', -32600, "The body must be one JSON-RPC 2.0 message: an object with jsonrpc '2.0'"),
        (b'{"jsonrpc":"2.0","id":{},"method":"ping"}', -32600, "id: must be a string or a number"),
        (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', -32600, "id: must be a string or a number"),
        (b'{"jsonrpc":"2.0","id":1,"method":7}', -32600, "method: must be a string"),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}', -32602, "params: must be an object"),
    ],
)  # fmt: skip
async def test_what_is_no_message_is_refused(
    http: httpx.AsyncClient, body: bytes, code: int, message: str
) -> None:
    answer = await http.post("/mcp", content=body)
    assert (answer.status_code, answer.json()) == (
        400,
        {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}},
    )


@pytest.mark.parametrize(
    ("call", "code", "message"),
    [
        (rpc("zip"), -32601, "Method not found: zip"),
        (rpc("tools/call"), -32602, "params.name: Field required"),
        (rpc("tools/call", {"name": "nope"}), -32602, "Unknown tool: nope"),
        (
            rpc("tools/call", {"name": "echo", "arguments": [1]}),
            -32602,
            "params.arguments: Input should be a valid dictionary",
        ),
        (rpc("tools/list", {"cursor": "x"}), -32602, "params.cursor: was not made by this server"),
    ],
)
async def test_a_wrong_call_leaves_nothing_behind(api: Api, call: Any, code: int, message: str) -> None:
    answer = await api.client().post("/mcp", json=call)
    assert (answer.status_code, answer.json()["error"]) == (200, {"code": code, "message": message})
    assert await api.database.fetch("select from slackwater.runs") == []


async def test_the_rest_of_http(http: httpx.AsyncClient) -> None:
    assert (await http.get("/mcp")).status_code == 405
    assert (await http.get("/mcp")).headers["allow"] == "POST"
    assert (await http.delete("/mcp")).status_code == 404
    for silent in ({"method": "notifications/initialized"}, {"id": 1, "result": {}}):
        answer = await http.post("/mcp", json={"jsonrpc": "2.0", **silent})
        assert (answer.status_code, answer.content) == (202, b"")
    refused = await http.post("/mcp", json=rpc("ping"), headers={"accept": "text/html"})
    assert refused.status_code == 400
    unspoken = await http.post("/mcp", json=rpc("tools/list"), headers={"MCP-Protocol-Version": "1999-01-01"})
    assert unspoken.json()["error"]["message"].startswith(
        "MCP-Protocol-Version: 1999-01-01 is not one of 2024"
    )


async def test_each_caller_has_tools_and_answers_of_her_own(serve: Any, connect: Connect) -> None:
    async with serve(names=("alice", "bob")) as api:
        alice, bob = api.client("alice"), api.client("bob")
        # GIVEN assistants of the same name, and one of another
        for name in ("My Chat!", "My Chat!", "chat"):
            await alice.post("/assistants", json={"graph_id": "chat", "name": name})
        async with connect(api, "alice") as client:
            hers = [tool.name for tool in (await client.list_tools()).tools]
        async with connect(api, "bob") as client:
            his = [tool.name for tool in (await client.list_tools()).tools]
            # THEN another sees none of them
            with pytest.raises(MCPError, match="Unknown tool: My_Chat"):
                await client.call_tool("My_Chat", {"messages": "x"})
        # and each has a name of its own, and nobody's name was taken by a newer one
        added = set(hers) - set(his)
        assert len(hers) == len(set(hers)) == len(his) + 3
        assert sorted(name.rpartition("_")[0] for name in added) == ["My", "My_Chat", "chat"]
        async with connect(api, "alice") as client:
            for name in added:
                answer = await client.call_tool(name, {"messages": "x"})
                assert answer.structured_content["messages"][-1]["content"] == "You said: x"
        # and what a call has come to is for its caller only
        new = {"MCP-Protocol-Version": "2025-11-25", "accept": "text/event-stream"}
        call = rpc("tools/call", {"name": "My_Chat", "arguments": {"messages": "x"}})
        told = await alice.post("/mcp", json=call, headers=new)
        event_id = told.text.split("\r\n")[0].removeprefix("id: ")
        assert (await bob.get("/mcp", headers={"Last-Event-ID": event_id})).status_code == 404


async def test_many_tools_come_in_pages(api: Api, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "PAGE", 10)
    async with connect() as client:
        names, cursor = [], None
        while True:
            page = await client.list_tools(cursor=cursor)
            assert len(page.tools) <= 10
            names += [tool.name for tool in page.tools]
            if (cursor := page.next_cursor) is None:
                break
    assert sorted(names) == sorted(api.services.graphs.ids)


def test_an_input_that_is_no_object_is_one_argument() -> None:
    schema = {"type": "string", "title": "Topic"}
    assert tools.arguments_schema(schema) == {
        "type": "object",
        "properties": {"input": schema},
        "required": ["input"],
    }
    assert tools.input_of({"input": "tides"}, schema) == "tides"
    assert tools.input_of({"input": "tides"}, {"type": "object"}) == {"input": "tides"}
    assert tools.arguments_schema(None) == {"type": "object"}
    assert tools.result(["a"], "success") == {
        "content": [{"type": "text", "text": '["a"]'}],
        "isError": False,
    }


async def test_a_long_call_shows_that_it_lives(serve: Any) -> None:
    call = rpc("tools/call", {"name": "steps", "arguments": {"n": 3, "sleep": 0.1}})
    async with serve(heartbeat_seconds=0.05) as api:
        for version, beat in (("2025-11-25", b": heartbeat"), ("2025-06-18", b"\n\n")):
            headers = {"MCP-Protocol-Version": version, "accept": "application/json, text/event-stream"}
            answer = await api.client().post("/mcp", json=call, headers=headers)
            assert beat in answer.content
            assert b'"structuredContent":{"n":3' in answer.content
