"""An MCP server: a real one of the official package, on loopback, which remembers what it was sent."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ImageContent, TextContent

PIXEL = "iVBORw0KGgo="


@dataclass
class McpStand:
    """By Streamable HTTP at `/mcp`, or by SSE at `/sse`."""

    url: str
    seen: list[dict[str, str]] = field(default_factory=list)
    """The headers of each request."""
    released: threading.Event = field(default_factory=threading.Event)
    token: str | None = None
    """What `Authorization` has to say, else the answer is 401. Whoever asks at `/token` is given it."""
    expires_in: float = 3600
    """What is said of it."""
    forms: list[dict[str, list[str]]] = field(default_factory=list)
    """What was sent to `/token`."""
    _begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    async def begun(self, calls: int = 1) -> None:
        """Wait until so many more calls of `wait` have begun."""
        for _ in range(calls):
            assert await asyncio.to_thread(self._begun.acquire, timeout=60)


def tools_of(name: str, stand: McpStand) -> MCPServer:
    server = MCPServer(name)

    @server.tool(description="Adds.")
    def add(a: int, b: int) -> int:
        return a + b

    @server.tool()
    def fail(why: str) -> str:
        raise ToolError(why)

    @server.tool(structured_output=False)
    def draw() -> list[Any]:
        return [
            TextContent(type="text", text="A pixel"),
            ImageContent(type="image", data=PIXEL, mime_type="image/png"),
        ]

    @server.tool(structured_output=False)
    def wait() -> str:
        stand._begun.release()
        stand.released.wait(600)
        return "released"

    return server


@contextmanager
def mcp_stand(kind: str = "http", *, token: str | None = None) -> Iterator[McpStand]:
    listening = socket.create_server(("127.0.0.1", 0))
    port, path = listening.getsockname()[1], "sse" if kind == "sse" else "mcp"
    stand = McpStand(f"http://127.0.0.1:{port}/{path}", token=token)
    server = tools_of(kind, stand)
    app: Any = server.sse_app() if kind == "sse" else server.streamable_http_app(stateless_http=True)

    async def give_token(receive: Any, send: Any) -> None:
        stand.forms.append(parse_qs((await receive())["body"].decode()))
        kind, _, value = (stand.token or "").partition(" ")
        given = {"access_token": value, "token_type": kind.lower(), "expires_in": stand.expires_in}
        body = json.dumps(given).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    async def remembering(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/token":
            await give_token(receive, send)
            return
        if scope["type"] == "http":
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            stand.seen.append(headers)
            if stand.token is not None and headers.get("authorization") != stand.token:
                await send({"type": "http.response.start", "status": 401, "headers": []})
                await send({"type": "http.response.body", "body": b""})
                return
        await app(scope, receive, send)

    config = uvicorn.Config(remembering, log_config=None, timeout_graceful_shutdown=1)
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, name="mcp-stand")
    thread.start()
    try:
        yield stand
    finally:
        stand.released.set()
        running.should_exit = True
        thread.join(30)
        listening.close()
    assert not thread.is_alive()
