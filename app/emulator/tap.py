"""A tap on the line between a runtime and the emulator's Runtime API.

On AWS the client has the function's response as soon as the runtime has posted it. The emulator keeps it until the
runtime and every extension have asked for the next event, which is long after, when an extension holds the
environment. So the runtime is given our address: bytes pass unchanged in both directions, and the response is read
in passing.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress

import httptools

_ANSWER = re.compile(r"/2018-06-01/runtime/invocation/[^/]+/(response|error)$")

OnAnswer = Callable[[bool, bytes], None]
"""Called with whether the function has failed, and the payload."""


class Tap:
    """Listens on a port of its own, and passes everything on to the Runtime API."""

    def __init__(self, port: int, on_answer: OnAnswer) -> None:
        self._upstream_port = port
        self._on_answer = on_answer
        self._server: asyncio.Server | None = None
        self._lines: set[asyncio.Task[None]] = set()

    async def open(self) -> int:
        """Listen; the port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        """Cut every line."""
        if self._server is not None:
            self._server.close()
            for line in self._lines:
                line.cancel()
            await asyncio.gather(*self._lines, return_exceptions=True)
            await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of ours: asyncio calls the cancellation of its own an error.
        line = asyncio.create_task(self._carry(reader, writer), name="runtime-line")
        self._lines.add(line)
        line.add_done_callback(self._lines.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        sides: list[asyncio.Task[None]] = []
        try:
            with suppress(OSError):
                up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
                ends.append(up_writer)
                requests = _Requests(self._on_answer)
                sides = [
                    asyncio.create_task(_pump(reader, up_writer, requests.read), name="runtime-requests"),
                    asyncio.create_task(_pump(up_reader, writer), name="runtime-responses"),
                ]
                # A runtime that has closed its side still waits for nothing: whichever ends first ends both.
                await asyncio.wait(sides, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.close()
            for side in sides:
                side.cancel()
            await asyncio.gather(*sides, *(end.wait_closed() for end in ends), return_exceptions=True)


class _Requests:
    """Reads the requests that pass on one connection."""

    def __init__(self, on_answer: OnAnswer) -> None:
        self._found = on_answer
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._url = b""
        self._body = bytearray()

    def read(self, data: bytes) -> None:
        if self._parser is None:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            # Not for us to judge: the emulator answers, a little later.
            self._parser = None

    # Called by the parser

    def on_message_begin(self) -> None:
        self._url, self._body = b"", bytearray()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        answer = _ANSWER.search(self._url.decode("latin-1"))
        if answer is not None:
            self._found(answer[1] == "error", bytes(self._body))


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
