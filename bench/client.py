"""The load: a process of its own with the cheapest client there is, driven by JSON lines on stdin.

An HTTP library would take as much of the machine as the server does. This one sends bytes that were made once and
looks only for the status, the first event and the end of the body: about 0.1 ms of CPU for each request.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import uuid4

import orjson

from bench.companion import serve_commands

END = b"\r\n0\r\n\r\n"
"""The last chunk of a chunked body; neither our JSON nor our event frames can contain it."""


class Refused(Exception):
    """The server's status was not 200."""


class Request:
    """The bytes of a request, made once; `{thread}` in the path becomes a new id each time they are asked for.

    Without a body it is a GET.
    """

    def __init__(
        self, url: str, path: str, body: dict[str, Any] | None, headers: Mapping[str, str] | None = None
    ) -> None:
        data = b"" if body is None else orjson.dumps(body)
        before, self._names_thread, after = path.partition("{thread}")
        self._before = f"{'GET' if body is None else 'POST'} {before}".encode()
        own = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        self._after = (
            f"{after} HTTP/1.1\r\nhost: {urlsplit(url).netloc}\r\ncontent-type: application/json\r\n"
            f"{own}content-length: {len(data)}\r\n\r\n".encode()
            + data
        )

    def __bytes__(self) -> bytes:
        return self._before + (str(uuid4()).encode() if self._names_thread else b"") + self._after


class Connection(asyncio.Protocol):
    """A keep-alive connection with one request at a time."""

    def __init__(self) -> None:
        self.first_event = 0.0
        """When the first event arrived (`time.perf_counter`)."""
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._size = 0
        """The length of the whole response; 0 until its head has arrived, -1 if it is chunked."""
        self._answer: asyncio.Future[bytes] | None = None
        self.event_seen: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self, request: Request) -> asyncio.Future[bytes]:
        """Send the request; the future has the whole response. Fails with Refused, or ConnectionResetError if it is cut off."""
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        self._buffer.clear()
        self._size = 0
        self.first_event, self.event_seen, self._answer = 0.0, loop.create_future(), loop.create_future()
        self._transport.write(bytes(request))
        return self._answer

    def data_received(self, data: bytes) -> None:
        buffer, answer = self._buffer, self._answer
        buffer += data
        if answer is None or answer.done():
            return
        if not self.first_event and b"event: " in buffer:
            self.first_event = time.perf_counter()
            assert self.event_seen is not None
            self.event_seen.set_result(None)
        if not self._size:
            self._size = _size_of(buffer)
        if len(buffer) >= self._size if self._size > 0 else buffer.endswith(END):
            if buffer.startswith(b"HTTP/1.1 200 "):
                answer.set_result(bytes(buffer))
            else:
                answer.set_exception(Refused(bytes(buffer).decode(errors="replace")))

    def connection_lost(self, _: Exception | None) -> None:
        for future in (self._answer, self.event_seen):
            if future is not None and not future.done():
                future.set_exception(ConnectionResetError())
                future.exception()

    def close(self) -> None:
        assert self._transport is not None
        self._transport.close()


def _size_of(buffer: bytearray) -> int:
    """The length of the response with its head; 0 until the head has arrived, -1 if it is chunked."""
    if (end := buffer.find(b"\r\n\r\n")) < 0:
        return 0
    position = buffer.find(b"content-length: ", 0, end)
    if position < 0:
        return -1
    return end + 4 + int(buffer[position + 16 : end].split(b"\r\n", 1)[0])


class Load:
    """Carries out the commands. Results are plain values."""

    def __init__(self) -> None:
        self._open: list[tuple[Connection, asyncio.Future[bytes]]] = []
        self._opened = 0.0

    async def closed(
        self,
        *,
        urls: list[str],
        path: str,
        body: dict[str, Any] | None,
        clients: int,
        seconds: float,
        most: int = sys.maxsize,
        headers: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """`clients`, shared out over `urls`, that each send the next request when the last one is answered.

        After `seconds`, or `most` answers, no more are sent, and what is answered later does not count, but for the very first.
        `{thread}` in `path` becomes a new id each time. Times in milliseconds; `per_second` is until the last answer that counts.
        """
        started, cpu = time.perf_counter(), time.process_time()
        until = started + seconds
        latencies: list[float] = []
        firsts: list[float] = []
        last = started

        async def client(url: str) -> None:
            nonlocal last
            request, connection = Request(url, path, body, headers), await _connect(url)
            while (sent := time.perf_counter()) < until and len(latencies) < most:
                answer = await connection.send(request)
                now = time.perf_counter()
                if b'"__error__"' in answer or b"event: error" in answer:
                    raise Refused(answer.decode())
                if now <= until or not latencies:
                    last = now
                    latencies.append((now - sent) * 1000)
                    if connection.first_event:
                        firsts.append((connection.first_event - sent) * 1000)
            connection.close()

        await asyncio.gather(*(client(urls[n % len(urls)]) for n in range(clients)))
        return {
            "per_second": len(latencies) / (last - started),
            "latencies": latencies,
            "firsts": firsts,
            "cpu_ms": (time.process_time() - cpu) * 1000 / len(latencies),
        }

    async def background(
        self, *, url: str, path: str, body: dict[str, Any], requests: int, clients: int
    ) -> dict[str, Any]:
        """Send `requests` requests; the bodies of their responses."""
        request, numbers = Request(url, path, body), iter(range(requests))
        bodies: list[str] = []

        async def client(todo: Iterator[int]) -> None:
            connection = await _connect(url)
            for _ in todo:
                answer = await connection.send(request)
                bodies.append(answer.partition(b"\r\n\r\n")[2].decode())
            connection.close()

        await asyncio.gather(*(client(numbers) for _ in range(clients)))
        return {"bodies": bodies}

    async def open_streams(
        self, *, url: str, path: str, body: dict[str, Any], streams: int, per_second: float
    ) -> dict[str, Any]:
        """Open `streams` connections, each with a stream, and wait for the first event of each; milliseconds."""
        request = Request(url, path, body)
        self._opened = time.perf_counter()

        async def stream(delay: float) -> float:
            await asyncio.sleep(delay)
            connection = await _connect(url)
            sent = time.perf_counter()
            self._open.append((connection, connection.send(request)))
            assert connection.event_seen is not None
            await connection.event_seen
            return (connection.first_event - sent) * 1000

        gap = 1 / per_second if per_second else 0.0
        return {"firsts": await asyncio.gather(*(stream(n * gap) for n in range(streams)))}

    async def end_streams(self) -> dict[str, Any]:
        """Wait for the end of every open stream; the bytes received, and the seconds since they were opened."""
        size = 0
        for connection, answer in self._open:
            whole = await answer
            if b"event: error" in whole:
                raise Refused(whole.decode())
            size += len(whole)
            connection.close()
        self._open.clear()
        return {"bytes": size, "seconds": time.perf_counter() - self._opened}


async def _connect(url: str) -> Connection:
    host, _, port = urlsplit(url).netloc.rpartition(":")
    _, connection = await asyncio.get_running_loop().create_connection(Connection, host, int(port))
    return connection


if __name__ == "__main__":
    serve_commands(Load)
