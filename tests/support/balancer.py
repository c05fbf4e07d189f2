"""A load balancer small enough to read: bytes in, bytes out, and only to replicas that are ready."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count
from urllib.parse import urlsplit

from tests.support.server import ServerProcess

READY_SECONDS = 3.0
PATIENCE_SECONDS = 6.0
"""How long a connection waits for a replica that is ready."""


class Balancer:
    """Round robin over replicas whose `/ready` is 200. A connection stays with its replica, and dies with it."""

    def __init__(self, replicas: Sequence[ServerProcess]) -> None:
        self.replicas = list(replicas)
        self.url = ""
        self._numbers = count()
        self._connections: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Balancer]:
        """Listen on a port of its own while the context lasts."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for connection in self._connections:
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
            await server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of ours: asyncio calls the cancellation of its own an error.
        task = asyncio.create_task(self._carry(reader, writer), name="connection")
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        sides: set[asyncio.Task[None]] = set()
        try:
            upstream = await self._connect()
            if upstream is not None:
                up_reader, up_writer = upstream
                ends.append(up_writer)
                # Whichever side ends first ends both: an aborted answer has to look like one.
                sides = {
                    asyncio.create_task(_pump(reader, up_writer)),
                    asyncio.create_task(_pump(up_reader, writer)),
                }
                await asyncio.wait(sides, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.close()
            for side in sides:
                side.cancel()
            await asyncio.gather(*sides, *(end.wait_closed() for end in ends), return_exceptions=True)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """To the next replica that is ready; none if there is none for some seconds."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            replica = self.replicas[next(self._numbers) % len(self.replicas)]
            if await _is_ready(replica):
                with suppress(OSError):
                    return await _open(replica)
            await asyncio.sleep(0.02)
        return None


async def _open(replica: ServerProcess) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = urlsplit(replica.url)
    return await asyncio.open_connection(address.hostname, address.port)


async def _is_ready(replica: ServerProcess) -> bool:
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(READY_SECONDS):
            reader, writer = await _open(replica)
            try:
                writer.write(b"GET /ready HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    return False


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
