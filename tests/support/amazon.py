"""AWS, as far as moto's server plays it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from uuid import uuid4

import boto3
from moto.server import ThreadedMotoServer

ACCOUNT: Mapping[str, str] = {
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""The environment of whoever has an account there."""


@contextmanager
def amazon() -> Iterator[str]:
    """The URL of a server, while the context lasts. What others of this process were given is in it, too."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@contextmanager
def object_store() -> Iterator[dict[str, str]]:
    """The settings of servers whose files are in an empty bucket, while the context lasts."""
    with amazon() as url:
        client = boto3.client(
            "s3",
            endpoint_url=url,
            region_name=ACCOUNT["AWS_REGION"],
            aws_access_key_id=ACCOUNT["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=ACCOUNT["AWS_SECRET_ACCESS_KEY"],
        )
        # Servers of one process share what is in them.
        bucket = f"slackwater-{uuid4().hex}"
        client.create_bucket(Bucket=bucket)
        client.close()
        yield {"SLACKWATER_BLOBS": f"s3://{bucket}/files", "AWS_ENDPOINT_URL_S3": url, **ACCOUNT}


@dataclass(eq=False)
class Way:
    """A way to a server that can be held up: what arrives is not passed on, and nobody is told."""

    url: str = ""
    _open: asyncio.Event = field(default_factory=asyncio.Event)
    _puts: int = 0
    """How many of them are passed on before the way is held up."""
    _held: asyncio.Event = field(default_factory=asyncio.Event)
    _unanswered: set[asyncio.StreamWriter] = field(default_factory=set)
    """Where answers go that have not come yet."""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def hold(self, after: int = 0) -> None:
        """Hold up each PUT but for the next `after`."""
        self._puts = after
        self._held.clear()
        self._open.clear()

    def let_go(self) -> None:
        self._open.set()

    async def held(self) -> None:
        """A PUT has come that is held up."""
        async with asyncio.timeout(30):
            await self._held.wait()

    @property
    def busy(self) -> bool:
        """Whether the server has not answered all that it was asked."""
        return bool(self._unanswered)

    async def _pass_on(self, data: bytes) -> None:
        if not data.startswith(b"PUT ") or self._open.is_set():
            return
        if self._puts > 0:
            self._puts -= 1
            return
        self._held.set()
        await self._open.wait()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int
    ) -> None:
        upstream, server = await asyncio.open_connection(host, port)
        back = asyncio.create_task(self._answers(upstream, writer))
        try:
            with suppress(OSError):
                while data := await reader.read(65_536):
                    self._unanswered.add(writer)
                    await self._pass_on(data)
                    server.write(data)
                    await server.drain()
            # Whoever asked may have gone: the server does what it has been asked all the same, and may take its time.
            with suppress(OSError):
                server.write_eof()
            await back
        finally:
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)
            self._unanswered.discard(writer)
            for side in (writer, server):
                side.transport.abort()

    async def _answers(self, upstream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await upstream.read(65_536):
                if not data.startswith(b"HTTP/1.1 100 "):
                    self._unanswered.discard(writer)
                writer.write(data)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def way_to(url: str) -> AsyncIterator[Way]:
    """A way to the server of this URL, while the context lasts."""
    way, to = Way(), urlsplit(url)
    way.let_go()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(way._carry(reader, writer, str(to.hostname), to.port or 80))
        way._tasks.add(task)
        task.add_done_callback(way._tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    way.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield way
    finally:
        server.close()
        for task in way._tasks:
            task.cancel()
        await asyncio.gather(*way._tasks, return_exceptions=True)
