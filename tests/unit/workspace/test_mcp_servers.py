"""Which MCP servers may be configured, what stands for a variable, and what is said of what goes wrong (1.19)."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from mcp import types
from mcp.client import stdio
from mcp.shared.exceptions import MCPError

from slackwater.errors import McpNotInstalled
from slackwater.settings import Settings
from slackwater.telemetry.logs import _NotOfMcp
from slackwater.workspace.mcp_servers import catalog, connection
from slackwater.workspace.mcp_servers.catalog import POLL_SECONDS, McpCatalog, reason_of
from slackwater.workspace.mcp_servers.models import McpServer
from slackwater.workspace.mcp_servers.of_runs import content_of, tool_name
from slackwater.workspace.mcp_servers.rules import InvalidMcpServer, check
from slackwater.workspace.mcp_servers.secrets import masked_url
from slackwater.workspace.mcp_servers.tool import McpTool
from slackwater.workspace.mcp_servers.variables import McpVariableMissing, resolved


@pytest.mark.parametrize(
    ("server", "says"),
    [
        ({"type": "stdio", "command": "bash"}, "'bash' is not allowed. Allowed: npx, uvx"),
        ({"type": "stdio", "command": "./npx"}, "a single executable name"),
        ({"type": "stdio", "command": "npx -y"}, "a single executable name"),
        ({"type": "stdio", "command": "npx;id"}, "a single executable name"),
        ({"command": None}, "a single executable name"),
        ({"command": "npx", "env": {"PATH": "."}}, "environment variable 'PATH'"),
        ({"command": "npx", "env": {"LD_PRELOAD": "x"}}, "environment variable 'LD_PRELOAD'"),
        (
            {"command": "npx", "env": {"npm_config_registry": "x"}},
            "environment variable 'npm_config_registry'",
        ),
        ({"command": "npx", "args": ["a\0b"]}, "contains NUL"),
        ({"type": "http"}, "needs a url"),
        ({"url": "file:///etc/passwd"}, "needs a url"),
        ({"url": "https://user:secret@x.example/"}, "needs a url"),
        ({"url": "https://x.example", "headers": {"A B": "x"}}, "the header 'A B'"),
        ({"url": "https://x.example", "headers": {"A": "x\r\nB: y"}}, "the header 'A'"),
        ({"url": "https://x.example", "oauth": {}}, "needs a token_url"),
    ],
)
def test_what_may_not_be_configured(server: dict[str, Any], says: str) -> None:
    """40a371b88: single executables of a list only, and 400 and not 500."""
    with pytest.raises(InvalidMcpServer, match=re.escape(says)):
        check("x", McpServer.model_validate(server), commands=("npx", "uvx"), signs=True)


def test_a_variable_is_the_whole_of_a_value_and_has_to_be_allowed() -> None:
    server = McpServer.model_validate(
        {
            "url": "$URL",
            "args": ["$TOKEN", "$5", "-$TOKEN"],
            "env": {"A": "$TOKEN"},
            "headers": {"B": "$TOKEN", "C": "Bearer $TOKEN"},
            "oauth": {"token_url": "$URL", "client_secret": "$TOKEN"},
        }
    )
    environment = {"URL": "https://x.example", "TOKEN": "t", "OTHER": "o"}
    found = resolved(server, ("URL", "TOKEN", "GONE"), environment)
    assert (found.url, found.args) == ("https://x.example", ["t", "$5", "-$TOKEN"])
    assert (found.env, found.headers) == ({"A": "t"}, {"B": "t", "C": "Bearer $TOKEN"})
    assert found.oauth is not None
    assert (found.oauth.token_url, found.oauth.client_secret) == ("https://x.example", "t")
    # Who may configure servers may not read the environment by them
    for name, says in (("OTHER", "not listed"), ("GONE", "is not set")):
        with pytest.raises(McpVariableMissing, match=says):
            resolved(McpServer(env={"A": f"${name}"}), ("GONE",), environment)


def test_a_command_that_is_not_allowed_any_more_is_not_started() -> None:
    servers = catalog_of("uvx")
    with pytest.raises(InvalidMcpServer, match="'npx' is not allowed"):
        servers.resolved("x", McpServer(command="npx"))
    assert servers.resolved("x", McpServer(command="uvx")).command == "uvx"
    assert POLL_SECONDS <= 9


def catalog_of(*commands: str) -> McpCatalog:
    kept: Any = None  # which is not asked for it
    return McpCatalog(kept, commands=commands, variables=())


async def test_an_answer_does_not_wait_for_the_end_of_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that hangs then would make of a call that has succeeded one that the model makes again."""
    servers = catalog_of()
    ended: list[str] = []

    @asynccontextmanager
    async def answer(name: str) -> AsyncIterator[int]:
        yield 5
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    async with asyncio.timeout(30):
        assert await servers.apart(answer("a"), "a") == 5
        assert ended == []
        # That takes as long as it may, and a stop does not cut it short
        await servers.close(0)
        assert ended == []
        monkeypatch.setattr(catalog, "CLOSE_SECONDS", 0.0)
        assert await servers.apart(answer("b"), "b") == 5
        while ended != ["b"]:
            await asyncio.sleep(0)


STUBBORN = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sys.stdin.readline()
pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
sys.stdin.read()
pathlib.Path(sys.argv[1] + ".end").touch()
time.sleep(600)
"""


async def test_a_stop_leaves_no_process_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A call of one that ignores its end was cancelled just before: being cancelled again, `mcp` would not kill it."""
    monkeypatch.setattr(stdio, "PROCESS_TERMINATION_TIMEOUT", 0.3)
    monkeypatch.setattr(stdio, "FORCE_KILL_TIMEOUT", 0.3)
    servers, begun = catalog_of(), tmp_path / "pid"
    server = McpServer(command="python3", args=["-c", STUBBORN, str(begun)])
    asking = asyncio.create_task(servers.ask(server, partial(connection.list_tools, server), "ask"))
    async with asyncio.timeout(30):
        while not (begun.exists() and begun.read_text()):
            await asyncio.sleep(0.01)
    pid = int(begun.read_text())
    try:
        asking.cancel()
        async with asyncio.timeout(30):
            while not (tmp_path / "pid.end").exists():
                await asyncio.sleep(0.01)
        await servers.close(30)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def test_arguments_may_have_names_that_langchain_uses() -> None:
    seen: list[Mapping[str, Any]] = []

    def call(arguments: Mapping[str, Any]) -> tuple[str, None]:
        seen.append(arguments)
        return "done", None

    async def acall(arguments: Mapping[str, Any]) -> tuple[str, None]:
        return call(arguments)

    schema = {"type": "object", "properties": {}}
    tool = McpTool(
        name="x",
        description="",
        args_schema=schema,
        call=call,
        acall=acall,
        response_format="content_and_artifact",
    )
    arguments = {"config": 1, "run_manager": 2, "self": 3, "callbacks": 4}
    assert (tool.invoke(arguments), await tool.ainvoke(arguments)) == ("done", "done")
    assert seen == [arguments, arguments]
    assert "acall" not in tool.model_dump_json()


def test_what_the_package_logs_is_not_logged() -> None:
    """Its logger `client` may be a project's, too."""

    def is_logged(path: str) -> bool:
        return _NotOfMcp().filter(logging.makeLogRecord({"name": "client", "pathname": path}))

    assert not is_logged("/venv/site-packages/mcp/client/session.py")
    assert is_logged("/project/client.py")


def test_settings_name_commands_and_variables() -> None:
    settings = Settings.load(mcp_commands="npx, uvx,", mcp_variables="GITHUB_TOKEN")
    assert (settings.mcp_commands, settings.mcp_variables) == (("npx", "uvx"), ("GITHUB_TOKEN",))
    with pytest.raises(Exception, match="SLACKWATER_MCP_COMMANDS: '/bin/sh' is no name"):
        Settings.load(mcp_commands="/bin/sh")


def test_a_query_is_masked() -> None:
    assert masked_url("https://x.example/mcp") == "https://x.example/mcp"
    assert masked_url("https://x.example/mcp?a=b=c&d&e=") == "https://x.example/mcp?a=***&d&e=***"


def test_what_goes_wrong_is_told_without_addresses_and_headers() -> None:
    request = httpx2.Request("POST", "https://x.example/?key=s3cret")
    refused = httpx2.HTTPStatusError(
        "for https://x.example/?key=s3cret", request=request, response=httpx2.Response(401)
    )
    assert reason_of(ExceptionGroup("a", [ExceptionGroup("b", [refused])])) == "it answered 401"
    assert reason_of(httpx2.LocalProtocolError("Illegal header value b's3cret'")) == "LocalProtocolError"
    assert reason_of(httpx2.ConnectError("All connection attempts failed")).endswith("attempts failed")
    assert reason_of(TimeoutError()) == "TimeoutError"
    assert reason_of(MCPError(-32603, "s3cret")) == "MCPError -32603"


def test_what_a_tool_has_answered() -> None:
    text = types.TextContent(type="text", text="a")
    link = types.ResourceLink(type="resource_link", name="b", uri="file:///b")
    inside = types.TextResourceContents(uri="file:///c", text="c")
    embedded = types.EmbeddedResource(type="resource", resource=inside)
    assert content_of(SimpleNamespace(content=[text, link, embedded])) == "a\nb: file:///b\nc"
    assert content_of(SimpleNamespace(content=[])) == ""
    blob = types.BlobResourceContents(uri="file:///d", blob="ZA==")
    blocks = content_of(
        SimpleNamespace(content=[text, types.EmbeddedResource(type="resource", resource=blob)])
    )
    assert blocks[1:] == [{"type": "file", "base64": "ZA==", "mime_type": "application/octet-stream"}]


def test_names_are_what_models_take() -> None:
    assert tool_name("my server", "do.it") == "my_server_do_it"
    assert len(tool_name("s" * 100, "t")) == 64


async def test_without_the_package_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_loaded", False)
    monkeypatch.setitem(sys.modules, "mcp.client.sse", None)
    with pytest.raises(McpNotInstalled, match="mcp-tools"):
        await connection.load()
