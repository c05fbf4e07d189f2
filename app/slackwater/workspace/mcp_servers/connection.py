"""A server, as the package `mcp` speaks with it: a connection for each question, which is closed after it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from slackwater.errors import McpNotInstalled, SlackwaterError
from slackwater.kit.imports import run_in_import_thread
from slackwater.workspace.mcp_servers.models import McpServer, McpTransport

if TYPE_CHECKING:
    from mcp import Client

PAGES = 20
MOST_TOOLS = 500
"""Of one server."""

MOST_LISTED = 1_000_000
"""Characters that all of them may take: each process keeps them, and models read them."""

CONNECT_SECONDS = 5.0


_loaded = False


class McpListingTooLarge(SlackwaterError):
    """The tools of an MCP server take more than 1 MB."""


async def load() -> None:
    """Import the package. Raises McpNotInstalled."""
    global _loaded
    if _loaded:  # nobody waits for the imports of others
        return
    try:
        await run_in_import_thread(_import)
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "mcp":
            raise
        raise McpNotInstalled from None
    _loaded = True


@asynccontextmanager
async def list_tools(server: McpServer, headers: Mapping[str, str]) -> AsyncIterator[list[Any]]:
    """The tools that it has, as `mcp` tells them. At the end the connection is closed. Raises whatever goes wrong."""
    found: list[Any] = []
    size = 0
    async with _connected(server, headers) as client:
        cursor: str | None = None
        for _ in range(PAGES):
            page = await client.list_tools(cursor=cursor)
            found += page.tools
            size += sum(len(tool.model_dump_json()) for tool in page.tools)
            if size > MOST_LISTED:
                raise McpListingTooLarge
            cursor = page.next_cursor
            if cursor is None or len(found) >= MOST_TOOLS:
                break
        yield found[:MOST_TOOLS]


@asynccontextmanager
async def call_tool(
    server: McpServer, tool: str, arguments: Mapping[str, Any], headers: Mapping[str, str], seconds: float
) -> AsyncIterator[Any]:
    """What a tool answers. At the end the connection is closed. Raises whatever goes wrong."""
    meta: Any = {"headers": dict(headers)} if headers and server.type is McpTransport.STDIO else None
    async with _connected(server, headers, seconds) as client:
        # It would ask for the list of tools, and a call that has been made would fail with that.
        client.session.validate_tool_result = _not_validated  # type: ignore[method-assign]
        yield await client.call_tool(tool, dict(arguments), read_timeout_seconds=seconds, meta=meta)


async def _not_validated(name: str, result: Any) -> None:
    """Models read what there is."""


@asynccontextmanager
async def _connected(
    server: McpServer, headers: Mapping[str, str], seconds: float = CONNECT_SECONDS
) -> AsyncIterator[Client]:
    import httpx2
    from mcp import Client
    from mcp.client.sse import sse_client
    from mcp.client.stdio import StdioServerParameters, stdio_client
    from mcp.client.streamable_http import streamable_http_client

    from slackwater.workspace.mcp_servers.client import http_client

    async with AsyncExitStack() as stack:
        transport: Any
        sent = _merged(server.headers, headers)
        if server.type is McpTransport.STDIO:
            # Found by our own PATH: what the process is given changes nothing of it.
            command = shutil.which(server.command or "")
            if command is None:
                raise FileNotFoundError(f"there is no executable {server.command!r}")
            started = StdioServerParameters(command=command, args=server.args, env=server.env)
            # Our own stderr is the log, in which it could write lines that look like ours.
            nowhere: Any = subprocess.DEVNULL
            transport = stdio_client(started, errlog=nowhere)
        elif server.type is McpTransport.SSE:
            transport = sse_client(
                server.url or "",
                headers=sent,
                timeout=CONNECT_SECONDS,
                sse_read_timeout=seconds,
                httpx_client_factory=http_client,
            )
        else:
            http = await stack.enter_async_context(
                http_client(sent, httpx2.Timeout(CONNECT_SECONDS, read=seconds))
            )
            transport = streamable_http_client(server.url or "", http_client=http)
        yield await stack.enter_async_context(Client(transport, cache=None))


def _merged(first: Mapping[str, str], then: Mapping[str, str]) -> dict[str, str]:
    """Of one name in several spellings the last one is sent."""
    return {name.lower(): value for name, value in (*first.items(), *then.items())}


def _import() -> None:
    import mcp.client.sse
    import mcp.client.stdio
    import mcp.client.streamable_http  # noqa: F401

    from slackwater.workspace.mcp_servers import client

    client.tls()
