"""A way to Postgres that breaks when it is told to: connections that end, that say nothing, answers that get lost.

It lives in a thread of its own, so that a test which blocks its event loop does not hold up those who are connected.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from psycopg.conninfo import conninfo_to_dict

T = TypeVar("T")

PREPARES = re.compile(rb"(sw_\w+)\x00([^\x00]{20,})\x00")
"""A statement that is prepared under a name of ours: sent later, it is this name only."""

READY_FOR_QUERY = b"Z\x00\x00\x00\x05"
"""How the server says that it has done everything it was asked: this, and one byte."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(eq=False)
class _Loss:
    """The next `times` requests that contain `marker` are carried out, and their answers are lost; or not even sent."""

    marker: bytes
    times: int
    sent: bool


@dataclass(eq=False)
class _Link:
    """One client's connection."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    recent: bytes = b""
    """The end of what was carried last: what is looked for may come in two pieces."""
    prepared: dict[bytes, bytes] = field(default_factory=dict)
    """Statements by their names."""
    loses: bool = False
    """The answer that comes next never arrives."""
    forgotten: bool = False

    def asks_for(self, marker: bytes, seen: bytes) -> bool:
        """Whether a request has the marker in its text, or in that of a statement that was prepared."""
        return marker in seen or any(
            marker in text and b"\x00%s\x00" % name in seen for name, text in self.prepared.items()
        )

    def abort(self) -> None:
        for side in (self.client, self.server):
            side.transport.abort()


@dataclass(eq=False)
class Proxy:
    """Carries bytes between clients on `port` and the database of `uri`."""

    target: str
    """Where new connections are led to: may be changed at any time, as a name server would."""
    port: int = 0
    accepted: int = 0
    lost: int = 0
    """How many answers (or requests) have been lost on demand."""
    _away: bool = False
    _silent: bool = False
    _losses: list[_Loss] = field(default_factory=list)
    _links: set[_Link] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _heard: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def uri(self) -> str:
        """The URI of the database by this way."""
        parts = conninfo_to_dict(self.target)
        return f"postgresql://{parts.get('user', 'postgres')}@127.0.0.1:{self.port}/{parts['dbname']}"

    # What a test does

    def cut(self) -> None:
        """End every connection there is, without a word. New ones are taken."""
        self._call(self._cut())

    def away(self) -> None:
        """End every connection, and let nobody in."""
        self._away = True
        self.cut()

    def silent(self) -> None:
        """Let nothing through any more, and say nothing: neither to those who are connected nor to those who come."""
        self._silent = True

    def forget(self) -> None:
        """Let nothing more through on the connections that there are, and say nothing. New ones are as good as ever."""
        self._call(self._forget())

    def back(self) -> None:
        """Be there again. What was silent is ended."""
        if self._silent:
            self.cut()
        self._away = self._silent = False
        self._call(self._wake())

    def lose_answers(self, marker: str, times: int = 1) -> None:
        """Let the server carry out the next requests that contain `marker`, and end their connections unanswered."""
        self._losses.append(_Loss(marker.encode(), times, sent=True))

    def lose_requests(self, marker: str, times: int = 1) -> None:
        """End the connections that send the next requests with `marker`, which the server never sees."""
        self._losses.append(_Loss(marker.encode(), times, sent=False))

    def keep_all(self) -> None:
        """Lose nothing more."""
        self._losses.clear()

    # In its own thread

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        done: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return done.result(10)

    async def _cut(self) -> None:
        for link in self._links:
            link.abort()

    async def _forget(self) -> None:
        for link in self._links:
            link.forgotten = True

    async def _wake(self) -> None:
        self._heard.set()
        self._heard = asyncio.Event()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of ours: asyncio calls the cancellation of its own an error.
        task = asyncio.get_running_loop().create_task(self._carry(reader, writer), name="connection")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        server: asyncio.StreamWriter | None = None
        try:
            if not self._away:
                upstream, server = await _open(self.target)
                if not self._away:  # by now
                    await self._link(reader, writer, upstream, server)
        except OSError:
            pass
        finally:
            for end in (writer, server):
                if end is not None:
                    # Not `close`, which waits for what is still to be sent.
                    end.transport.abort()

    async def _link(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        upstream: asyncio.StreamReader,
        server: asyncio.StreamWriter,
    ) -> None:
        link = _Link(writer, server)
        self._links.add(link)
        sides = [
            asyncio.create_task(self._pump(link, reader, server, self._request)),
            asyncio.create_task(self._pump(link, upstream, writer, self._answer)),
        ]
        try:
            await asyncio.wait(sides, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for side in sides:
                side.cancel()
            await asyncio.gather(*sides, return_exceptions=True)
            self._links.discard(link)

    async def _pump(
        self,
        link: _Link,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        passes: Callable[[_Link, bytes], bool],
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                while self._silent or link.forgotten:
                    await self._heard.wait()
                if passes(link, data):
                    writer.write(data)
                    await writer.drain()

    def _request(self, link: _Link, data: bytes) -> bool:
        seen = link.recent + data
        link.prepared.update(PREPARES.findall(seen))
        for loss in self._losses if not link.loses else ():
            if loss.times and link.asks_for(loss.marker, seen):
                loss.times -= 1
                if not loss.sent:
                    self.lost += 1
                    link.abort()
                    return False
                link.loses = True
                break
        link.recent = b"" if link.loses else seen[-20_000:]
        return True

    def _answer(self, link: _Link, data: bytes) -> bool:
        if not link.loses:
            link.recent = b""
            return True
        link.recent = (link.recent + data)[-6:]
        if READY_FOR_QUERY in link.recent:
            self.lost += 1
            link.abort()
        return False

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        self._loop.run_forever()
        server.close()
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _end(self) -> None:
        """Let nothing stay open: who was accepted just now gets their task in one of the next turns."""
        for _ in range(3):
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.sleep(0)


@contextmanager
def proxied(uri: str) -> Iterator[Proxy]:
    """A proxy in front of the database; `proxy.uri` leads through it."""
    proxy = Proxy(uri)
    started = threading.Event()
    thread = threading.Thread(target=proxy._run, args=(started,), name="proxy")
    thread.start()
    assert started.wait(10)
    try:
        yield proxy
    finally:
        proxy._loop.call_soon_threadsafe(proxy._loop.stop)
        thread.join(10)


async def _open(uri: str) -> Streams:
    parts = conninfo_to_dict(uri)
    host, port = str(parts.get("host", "127.0.0.1")), parts.get("port", 5432)
    if host.startswith("/"):
        return await asyncio.open_unix_connection(Path(host) / f".s.PGSQL.{port}")
    return await asyncio.open_connection(host, int(port or 5432))
