"""Tools of MCP servers in nodes: real servers of the official package, by HTTP, SSE and a process (1.19, #3294)."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from slackwater.errors import NoMcp
from slackwater.identity.oidc.transport import AnswerTooLarge
from slackwater.mcp import tools
from slackwater.workspace.mcp_servers import catalog, connection, oauth
from slackwater.workspace.mcp_servers.client import http_client
from slackwater.workspace.mcp_servers.models import McpOAuth, McpServer
from tests.support.api import Api
from tests.support.mcp_server import PIXEL, mcp_stand
from tests.support.server import fleet_of

GRAPH = """
from typing import Any, TypedDict

from langgraph.graph import START, StateGraph

from slackwater.mcp import McpCall, McpHandler, atools, tools


class Said(TypedDict, total=False):
    servers: Any
    call: str
    arguments: Any
    names: Any
    said: Any
    again: Any
    once: bool
    artifact: Any


async def mark(call: McpCall, handler: McpHandler) -> Any:
    headers = {**call.headers, "X-Outer": "yes", "x-slackwater-token": "made up"}
    return await handler(call.override(headers=headers))


async def agent(state: Said) -> Said:
    found = {tool.name: tool for tool in await atools(state.get("servers"), interceptors=[mark])}
    if state.get("call") not in found:
        return {"names": list(found)}
    call = {"type": "tool_call", "id": "1", "name": state["call"], "args": state.get("arguments") or {}}
    message = await found[state["call"]].ainvoke(call)
    return {"names": list(found), "said": message.content, "artifact": message.artifact}


def again(state: Said) -> Said:
    found = {tool.name: tool for tool in tools(state.get("servers"))}
    if state.get("call") not in found or state.get("once"):
        return {}
    return {"again": found[state["call"]].invoke(state.get("arguments") or {})}


agent = StateGraph(Said).add_sequence([agent, again]).add_edge(START, "agent").compile()
"""

STDIO = """
from mcp.server.mcpserver import Context, MCPServer
import os

server = MCPServer("stdio")


@server.tool(structured_output=False)
def look(ctx: Context) -> str:
    meta = ctx.request_context.meta or {}
    return f"{os.environ.get('GIVEN')} {sorted(meta.get('headers', {}))} {'SLACKWATER_SECRET' in os.environ}"


server.run()
"""

PYTHON = "python3"


def write_project(folder: Path) -> None:
    (folder / "agent.py").write_text(GRAPH)
    (folder / "stdio.py").write_text(STDIO)
    content = {"dependencies": ["."], "graphs": {"agent": "./agent.py:agent"}}
    (folder / "langgraph.json").write_text(json.dumps(content))


@pytest.fixture
async def api(
    serve: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Api]:
    monkeypatch.setenv("MCP_TEST_TOKEN", "Bearer s3cret")
    monkeypatch.setenv("SLACKWATER_SECRET", "not for others")
    monkeypatch.setattr(catalog, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(catalog, "LIST_SECONDS", 30.0)  # where it does not matter
    write_project(tmp_path)
    async with serve(
        gateway=True,
        blobs=f"file:{tmp_path}/blobs",
        project=tmp_path,
        names=("alice", "bob"),
        database_keys=True,
        mcp_commands=PYTHON,
        mcp_variables="MCP_TEST_TOKEN",
    ) as api:
        yield api


async def configure(client: httpx.AsyncClient, **servers: Any) -> None:
    answer = await client.put("/api/mcp/config", json={"mcp_servers": servers})
    assert answer.status_code == 200, answer.text


async def run(client: httpx.AsyncClient, **state: Any) -> dict[str, Any]:
    answer = await client.post("/runs/wait", json={"assistant_id": "agent", "input": state})
    assert answer.status_code == 200, answer.text
    values: dict[str, Any] = answer.json()
    assert "__error__" not in values, values
    return values


async def none_left(tasks: str) -> None:
    """Wait for the tasks whose names begin so: connections are closed behind those who have the answer."""
    async with asyncio.timeout(30):
        while any(task.get_name().startswith(tasks) for task in asyncio.all_tasks()):
            await asyncio.sleep(0.01)


async def test_a_graph_has_the_tools_of_all_servers(api: Api, tmp_path: Path) -> None:
    """By each transport, in an `async def` and in a `def`; #3294: headers of interceptors reach servers, also those of a process."""
    alice = api.client("alice")
    assert await run(alice, call="x") == {"call": "x", "names": []}
    with ExitStack() as stack:
        http = stack.enter_context(mcp_stand("http", token="Bearer s3cret"))
        sse = stack.enter_context(mcp_stand("sse"))
        await configure(
            alice,
            web={"url": http.url, "headers": {"Authorization": "$MCP_TEST_TOKEN"}, "identity": True},
            old={"type": "sse", "url": sse.url, "headers": {"X-Mine": "1"}},
            local={
                "command": PYTHON,
                "args": [str(tmp_path / "stdio.py")],
                "env": {"GIVEN": "this"},
            },
            off={"url": http.url, "enabled": False},
        )
        assert (await run(alice))["names"] == [
            *("web_add", "web_fail", "web_draw", "web_wait"),
            *("old_add", "old_fail", "old_draw", "old_wait"),
            "local_look",
        ]
        done = await run(alice, call="web_add", arguments={"a": 2, "b": 3}, servers=["web", "off"])
        assert (done["names"][-1], done["said"], done["again"]) == ("web_wait", "5", "5")
        assert done["artifact"] == {"structured_content": {"result": 5}}
        assert (await run(alice, call="old_add", arguments={"a": 2, "b": 2}))["said"] == "4"
        # What goes wrong is told to the model
        assert "because" in (await run(alice, call="web_fail", arguments={"why": "because"}))["said"]
        drawn = (await run(alice, call="web_draw"))["said"]
        assert [block["type"] for block in drawn] == ["text", "image"]
        assert drawn[1]["base64"] == PIXEL
        # A process is given what it is configured with, headers as meta, and nothing of our environment
        looked = await run(alice, call="local_look", once=True)
        assert looked["said"] == "this ['X-Outer'] False"
        # Each server is sent its own headers, and those of interceptors with the call
        assert all(headers["authorization"] == "Bearer s3cret" for headers in http.seen)
        assert all(headers["x-mine"] == "1" and "authorization" not in headers for headers in sse.seen)
        assert any(headers.get("x-outer") == "yes" for headers in http.seen)
        await none_left("mcp:")


async def test_a_marked_server_learns_whose_run_calls(api: Api) -> None:
    """By a token that is valid for a minute, reads, and cannot be made up by a graph; the others learn nothing."""
    alice, bob = api.client("alice"), api.client("bob")
    with mcp_stand() as marked, mcp_stand() as other:
        await configure(alice, marked={"url": marked.url, "identity": True}, other={"url": other.url})
        for server in ("marked", "other"):
            assert (await run(bob, call=f"{server}_add", arguments={"a": 1, "b": 1}))["said"] == "2"
        tokens = {headers.get("x-slackwater-token") for headers in marked.seen} - {None}
        assert tokens
        assert "made up" not in tokens
        assert {headers.get("x-slackwater-token") for headers in other.seen} == {None}
        # WHEN the server asks with it, THEN it sees what is bob's, and changes nothing
        thread = (await bob.post("/threads", json={})).json()["thread_id"]
        foreign = (await alice.post("/threads", json={})).json()["thread_id"]
        for token in tokens:
            caller = api.client(authorization=f"Bearer {token}")
            assert (await caller.get(f"/threads/{thread}")).status_code == 200
            assert (await caller.post("/threads", json={})).status_code == 403
            assert (await caller.get(f"/threads/{foreign}")).status_code == 404


async def test_a_server_that_is_down_blocks_nobody(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One that refuses, one that never answers, one that wants another token, one whose variable nobody allows."""
    alice = api.client("alice")
    monkeypatch.setattr(catalog, "AGAIN_SECONDS", 1000.0)

    def told() -> list[Any]:
        events = [record for record in caplog.records if getattr(record, "event", "") == "mcp.unavailable"]
        return [record.server for record in events]  # type: ignore[attr-defined]

    with socket.create_server(("127.0.0.1", 0)) as silent, mcp_stand() as up, mcp_stand(token="x") as closed:
        with socket.create_server(("127.0.0.1", 0)) as gone:
            refusing = gone.getsockname()[1]
        down: dict[str, Any] = {
            "refusing": {"url": f"http://127.0.0.1:{refusing}/mcp?key=s3cret"},
            "closed": {"url": closed.url + "?key=s3cret"},
            "variable": {"url": up.url, "headers": {"Authorization": "$HOME"}},
            "missing": {"command": PYTHON, "args": ["/nowhere"]},
        }
        await configure(alice, **down, up={"url": up.url})
        names = (await run(alice))["names"]
        assert {name.partition("_")[0] for name in names} == {"up"}
        assert sorted(told()) == sorted(down)
        assert "s3cret" not in caplog.text
        assert "HOME is not listed in SLACKWATER_MCP_VARIABLES" in caplog.text
        # WHEN one never answers, THEN a run waits for it as long as it may take
        down["silent"] = {"url": f"http://127.0.0.1:{silent.getsockname()[1]}/mcp"}
        await configure(alice, **down, up={"url": up.url})
        monkeypatch.setattr(catalog, "LIST_SECONDS", 0.2)
        assert (await run(alice))["names"] == names
        async with asyncio.timeout(30):
            while "silent" not in told():
                await asyncio.sleep(0.01)
        # AND the next one does not, nor does it ask any of them
        monkeypatch.setattr(catalog, "LIST_SECONDS", 1000.0)
        assert (await run(alice))["names"] == names
        assert sorted(told()) == sorted(down)
    # WHEN a server has gone down since, THEN its tools say so
    said = (await run(alice, call="up_add", arguments={"a": 1, "b": 1}))["said"]
    assert said == "The MCP server up could not be asked."


async def test_a_change_takes_effect_when_the_configuration_is_asked_for_again(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Within ten seconds, and no query in between; while it cannot be read, the last one is used."""
    alice = api.client("alice")
    with mcp_stand() as first, mcp_stand() as second:
        await configure(alice, a={"url": first.url})
        assert (await run(alice))["names"][0] == "a_add"
        monkeypatch.setattr(catalog, "POLL_SECONDS", 1000.0)
        asked = len(first.seen)
        await configure(alice, b={"url": second.url})
        assert (await run(alice))["names"][0] == "a_add"
        # What it has is known, too
        assert len(first.seen) == asked
        monkeypatch.setattr(catalog, "POLL_SECONDS", 0.0)
        assert (await run(alice))["names"][0] == "b_add"
        await api.database.execute(
            "update slackwater.mcp_config set version = version + 1, sealed_by = 'another'"
        )
        assert (await alice.get("/api/mcp/config")).status_code == 503
        monkeypatch.setattr(catalog, "RETRY_SECONDS", 1000.0)
        for _ in range(2):
            assert (await run(alice))["names"][0] == "b_add"
        assert caplog.text.count("the last one is used") == 1
        # WHEN the row has been deleted, as that is what to do then, THEN another one of the same version is another one
        monkeypatch.setattr(catalog, "RETRY_SECONDS", 0.0)
        await api.database.execute("delete from slackwater.mcp_config")
        for url in (first.url, second.url):
            await configure(alice, c={"url": url})
        assert (await run(alice))["names"][0] == "c_add"


async def test_a_call_ends_with_its_run(api: Api) -> None:
    """A cancelled run leaves no call behind, and a slow server is not waited for longer than it may take."""
    alice = api.client("alice")
    with mcp_stand() as stand:
        await configure(alice, slow={"url": stand.url})
        thread = (await alice.post("/threads", json={})).json()["thread_id"]
        made = await alice.post(
            f"/threads/{thread}/runs", json={"assistant_id": "agent", "input": {"call": "slow_wait"}}
        )
        await stand.begun()
        answer = await alice.post(f"/threads/{thread}/runs/{made.json()['run_id']}/cancel?wait=true")
        assert answer.status_code in (200, 204)
        state = (await alice.get(f"/threads/{thread}/runs/{made.json()['run_id']}")).json()
        assert state["status"] == "interrupted"
        await none_left("mcp:call")
        await configure(alice, slow={"url": stand.url, "tool_call_timeout": 0.1})
        assert (await run(alice, call="slow_wait", servers=["slow"]))["said"] == (
            "The MCP server slow has not answered within 0.1 seconds."
        )


async def test_a_server_that_wants_a_token(api: Api) -> None:
    """`oauth`: it is fetched once, with the secrets of the configuration, and used until shortly before it expires, or it is refused."""
    alice = api.client("alice")
    with mcp_stand(token="Bearer given") as stand:
        oauth = {
            "token_url": stand.url.removesuffix("/mcp") + "/token",
            "client_id": "us",
            "client_secret": "$MCP_TEST_TOKEN",
            "scope": "all",
            "extra_token_params": {"resource": "x"},
        }
        await configure(alice, web={"url": stand.url, "oauth": oauth})
        assert (await run(alice, call="web_add", arguments={"a": 2, "b": 3}))["said"] == "5"
        assert stand.forms == [
            {
                "grant_type": ["client_credentials"],
                "client_id": ["us"],
                "client_secret": ["Bearer s3cret"],
                "scope": ["all"],
                "resource": ["x"],
            }
        ]
        # WHEN the server takes it no more, THEN the call fails, and the next one has another
        stand.token = "Bearer another"
        done = await run(alice, call="web_add", arguments={"a": 2, "b": 3})
        assert (done["said"], done["again"]) == ("The MCP server web could not be asked.", "5")
        assert len(stand.forms) == 2


async def test_how_long_a_token_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that is valid for less than the skew; what is no time, too large an answer, and none in time are refused."""
    with mcp_stand(token="Bearer given") as stand:
        url = stand.url.removesuffix("/mcp") + "/token"
        tokens, asked = oauth.OAuthTokens(), McpOAuth(token_url=url)
        stand.expires_in = 50
        for _ in range(2):
            assert await tokens.headers(asked) == {"authorization": "Bearer given"}
        assert len(stand.forms) == 1
        tokens.forget(asked)
        stand.expires_in = float("nan")
        with pytest.raises(oauth.McpTokenRefused):
            await tokens.headers(asked)
        monkeypatch.setattr(oauth, "SECONDS", 0.0)
        with pytest.raises(oauth.McpTokenRefused, match="no token within 0 seconds"):
            await tokens.headers(asked)
        async with http_client(most_bytes=10) as client:
            with pytest.raises(AnswerTooLarge):
                await client.post(url)


async def test_a_call_is_one_request_and_tools_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that is there is not lost by asking for something else."""
    with mcp_stand() as stand:
        server = McpServer(url=stand.url)
        async with connection.call_tool(server, "add", {"a": 1, "b": 2}, {}, 30) as result:
            assert result.structured_content == {"result": 3}
        methods = [headers.get("mcp-method") for headers in stand.seen]
        assert "tools/call" in methods
        assert "tools/list" not in methods
        monkeypatch.setattr(connection, "MOST_LISTED", 10)
        with pytest.raises(ExceptionGroup) as raised:
            async with connection.list_tools(server, {}):
                pass
        assert catalog.reason_of(raised.value).startswith("McpListingTooLarge")


async def test_a_call_in_flight_at_a_stop_is_made_again_elsewhere(
    database_uri: str, serve: Callable[..., Any], tmp_path: Path
) -> None:
    """SIGTERM and SIGKILL: the superstep runs again, in a process that has the same servers."""
    project = tmp_path / "project"
    project.mkdir()
    write_project(project)
    env = {
        "SLACKWATER_GATEWAY": "true",
        "SLACKWATER_MAX_CONCURRENT_RUNS": "1",  # each has one of the two
        "SLACKWATER_GRACE_SECONDS": "1.5",
    }
    with mcp_stand() as stand:
        async with (
            fleet_of(database_uri, tmp_path, project, env) as fleet,
            httpx.AsyncClient(timeout=60) as client,
        ):
            first, second = await fleet.start(2)
            client.base_url = httpx.URL(first.url)
            await configure(client, slow={"url": stand.url})
            runs = []
            for _ in range(2):
                thread = (await client.post("/threads", json={})).json()["thread_id"]
                body = {"assistant_id": "agent", "input": {"call": "slow_wait"}}
                made = (await client.post(f"/threads/{thread}/runs", json=body)).json()
                runs.append(f"/threads/{thread}/runs/{made['run_id']}")
            await stand.begun(2)
            first.sigterm()
            second.sigkill()
            assert await first.wait() == 0
            await second.wait()
            assert fleet.complaints == []
        blobs = f"file:{tmp_path}/blobs"
        async with serve(gateway=True, blobs=blobs, project=project, sweep_seconds=0.2) as last:
            await stand.begun(2)
            stand.released.set()
            for run in runs:
                assert (await last.client().get(f"{run}/join")).json()["said"] == "released"


async def test_outside_of_a_run_there_are_none() -> None:
    with pytest.raises(NoMcp):
        tools()
