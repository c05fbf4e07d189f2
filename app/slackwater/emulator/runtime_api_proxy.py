"""A proxy between a runtime and the emulator's Runtime API, which reads responses as they pass.

On AWS the client gets the function's response as soon as the runtime has posted it. The emulator withholds it until the
runtime and every extension have asked for the next event, which takes long if an extension holds the environment; and it
buffers a streamed response to its end. So the runtime gets the proxy's address: bytes pass unchanged in both directions.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Protocol

import httptools

_RESPONSE = re.compile(r"/2018-06-01/runtime/invocation/[^/]+/(response|error)$")

_MODE, _ERROR = b"lambda-runtime-function-response-mode", b"lambda-runtime-function-error-type"
_NULS = bytes(8)
"""Separates the JSON of status and headers from the body of a streamed response."""


class Observer(Protocol):
    """Receives what the proxy has read."""

    def on_response(self, failed: bool, payload: bytes) -> None:
        """The whole response or error has passed."""

    def on_stream(self, stream: Stream) -> None:
        """The head of a streamed response has passed; its body follows."""


class Stream:
    """A streamed response: its head, and its body as an asynchronous iterator."""

    def __init__(self) -> None:
        self.head: bytes | None = None
        self.error: str | None = None
        """Set at the end of a response that was cut."""
        self._begun = b""
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue()

    def feed(self, data: bytes) -> bool:
        """Add received data; True when it completes the head."""
        if self.head is not None:
            self._chunks.put_nowait(data)
            return False
        head, found, body = (self._begun + data).partition(_NULS)
        if not found:
            self._begun = head
            return False
        self.head = head
        if body:
            self._chunks.put_nowait(body)
        return True

    def end(self, error: str | None) -> bytes | None:
        """End of the data. Returns what was received, if the head is incomplete."""
        self.error = error
        self._chunks.put_nowait(None)
        return self._begun if self.head is None else None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (chunk := await self._chunks.get()) is not None:
            yield chunk


class RuntimeApiProxy:
    """Listens on a port of its own and forwards everything to the Runtime API."""

    def __init__(self, port: int, observer: Observer) -> None:
        self._upstream_port = port
        self._observer = observer
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def open(self) -> int:
        """Listen, and return the port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        """Close every connection."""
        if self._server is not None:
            self._server.close()
            for connection in self._connections:
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
            await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Our own task: asyncio logs the cancellation of its own as an error.
        connection = asyncio.create_task(self._process(reader, writer), name="runtime-connection")
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _process(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        sides: list[asyncio.Task[None]] = []
        requests = Requests(self._observer)
        try:
            with suppress(OSError):
                up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
                ends.append(up_writer)
                sides = [
                    asyncio.create_task(_pump(reader, up_writer, requests.read), name="runtime-requests"),
                    asyncio.create_task(_pump(up_reader, writer), name="runtime-responses"),
                ]
                # Whichever side closes first closes both: a runtime that has closed its side expects nothing more.
                await asyncio.wait(sides, return_when=asyncio.FIRST_COMPLETED)
        finally:
            requests.close()
            for end in ends:
                end.close()
            for side in sides:
                side.cancel()
            await asyncio.gather(*sides, *(end.wait_closed() for end in ends), return_exceptions=True)


class Requests:
    """Parses the requests on one connection."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self.on_message_begin()

    def read(self, data: bytes) -> None:
        if self._parser is None:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            # The emulator answers invalid requests itself.
            self._parser = None

    def close(self) -> None:
        """The connection was closed, perhaps in the middle of a response."""
        if self._stream is not None:
            self._stream.end("Runtime.Cut")

    # Called by the parser

    def on_message_begin(self) -> None:
        self._url, self._body, self._error = b"", bytearray(), ""
        self._streamed = False
        self._stream: Stream | None = None

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers, too.
        if name.lower() == _MODE:
            self._streamed = value.lower() == b"streaming"
        elif name.lower() == _ERROR:
            self._error = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        if self._streamed and self._stream is None:
            self._stream = Stream()
        if self._stream is None:
            self._body += body
        elif self._stream.feed(body):
            self._observer.on_stream(self._stream)

    def on_message_complete(self) -> None:
        match = _RESPONSE.search(self._url.decode("latin-1"))
        payload: bytes | None = bytes(self._body)
        if self._stream is not None:
            payload, self._stream = self._stream.end(self._error or None), None
        if match is not None and payload is not None:
            self._observer.on_response(match[1] == "error", payload)


async def _pump(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    observe: Callable[[bytes], None] | None = None,
) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            if observe is not None:
                observe(data)
            await writer.drain()
