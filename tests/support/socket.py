"""A WebSocket to an application in the test's own process, without a server between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from support.api import Api


@dataclass
class SocketClient:
    """What a client sends, and what it gets."""

    heard: list[dict[str, Any]] = field(default_factory=list)
    closed: tuple[int, str] | None = None
    _received: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def send(self, message: Any) -> None:
        """Send JSON, or a text as it is."""
        text = message if isinstance(message, str) else orjson.dumps(message).decode()
        self._received.put_nowait({"type": "websocket.receive", "text": text})

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command; its answer."""
        command_id = 1 + max((m["id"] for m in self.answers if isinstance(m.get("id"), int)), default=0)
        self.send({"id": command_id, "method": method, "params": params})
        return await self.until(lambda: next((m for m in self.answers if m["id"] == command_id), None))

    @property
    def answers(self) -> list[dict[str, Any]]:
        return [message for message in self.heard if message["type"] != "event"]

    @property
    def events(self) -> list[dict[str, Any]]:
        return [message for message in self.heard if message["type"] == "event"]

    async def until(self, condition: Any) -> Any:
        """Wait until `condition()` has a value; the value."""
        async with asyncio.timeout(15):
            while not (value := condition()):
                self._changed.clear()
                await self._changed.wait()
            return value

    async def take(self, message: dict[str, Any]) -> None:
        """ASGI's `send`."""
        if message["type"] == "websocket.send":
            self.heard.append(orjson.loads(message["text"]))
        elif message["type"] == "websocket.close":
            self.closed = message["code"], message.get("reason") or ""
        self._changed.set()


@asynccontextmanager
async def connect(
    api: Api, path: str, name: str | None = None, **headers: str
) -> AsyncIterator[SocketClient]:
    """Connect with the key of `name`."""
    given = {"host": "127.0.0.1", **headers, **({"x-api-key": api.secrets[name]} if name else {})}
    scope = {
        "type": "websocket",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(key.encode(), value.encode()) for key, value in given.items()],
        "client": ("127.0.0.1", 1),
        "subprotocols": [],
        "state": dict(api.state),
    }
    client = SocketClient()
    client._received.put_nowait({"type": "websocket.connect"})
    served = asyncio.create_task(api.app(scope, client._received.get, client.take))
    try:
        yield client
    finally:
        client._received.put_nowait({"type": "websocket.disconnect", "code": 1000})
        async with asyncio.timeout(10):
            await served
