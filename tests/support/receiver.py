"""A receiver of webhooks: a real HTTP server on loopback, which answers as a test wants."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

HANG = 0
"""Instead of a status: no answer."""


@dataclass(frozen=True)
class Got:
    """One request."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.body)
        return content

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def signed_with(self, key: bytes) -> bool:
        """Whether the signature is the one of the Standard Webhooks specification."""
        signed = f"{self.id}.{self.headers['webhook-timestamp']}.".encode() + self.body
        digest = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return hmac.compare_digest(self.headers["webhook-signature"], f"v1,{digest}")


@dataclass(eq=False)
class Receiver:
    port: int = 0
    answers: list[int] = field(default_factory=list)
    """Statuses of the next answers; then 200."""
    headers: str = ""
    """More lines of each answer."""
    slowest: float = 0.0
    """Seconds that an answer takes at most."""
    got: list[Got] = field(default_factory=list)
    tls: ssl.SSLContext | None = None
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def up(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def until(self, count: int, timeout: float = 15) -> list[Got]:
        """Wait for so many requests."""
        async with asyncio.timeout(timeout):
            while len(self.got) < count:
                await asyncio.sleep(0.02)
        return self.got

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (h.partition(":") for h in head[1:])}
            body = await reader.readexactly(int(headers["content-length"]))
            self.got.append(Got(head[0], headers, body))
            status = self.answers.pop(0) if self.answers else 200
            if status == HANG:
                await reader.read()  # until the other side goes away
                return
            if self.slowest:
                await asyncio.sleep(random.uniform(0, self.slowest))
            writer.write(
                f"HTTP/1.1 {status} X\r\n{self.headers}content-length: 0\r\nconnection: close\r\n\r\n".encode()
            )
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            with suppress(OSError):
                writer.close()


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """One that is up."""
    one = Receiver()
    await one.up()
    try:
        yield one
    finally:
        await one.down()
