"""Answers that stay open until a run has ended, or are cut off when this process leaves.

A cut is an aborted connection, never an ended body: only then do the SDKs come back by `Location`. A clean
end they take for the end of the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from enum import Enum
from typing import TYPE_CHECKING

from fastapi import Response
from starlette.types import Receive, Scope, Send

from slackwater.kit import sse
from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE
from slackwater.runtime.events.run_reader import StreamCut

if TYPE_CHECKING:
    from slackwater.settings import Settings
    from slackwater.web.streams.bounds import Bounds


class Left(Enum):
    """How an open answer came to its end."""

    ENDED = "ended"
    CUT = "cut"
    """By us: the run goes on elsewhere, or the database is away. The client comes back."""
    DISCONNECTED = "disconnected"
    """By the client."""


async def _nothing_depends_on_it(_: Left) -> None: ...


class OpenResponse(Response):
    """Sends `chunks` as they come, and `heartbeat` every `seconds` from the start of the response.

    `left` is told how it ends, before the last chunk if there is one. Returning from an ASGI application before the last chunk makes the
    server close the connection without one: that is the abort.
    """

    def __init__(
        self,
        chunks: AsyncGenerator[bytes],
        *,
        media_type: str,
        headers: Mapping[str, str],
        heartbeat: bytes,
        seconds: float,
        left: Callable[[Left], Awaitable[None]] = _nothing_depends_on_it,
    ) -> None:
        super().__init__(headers=dict(headers), media_type=media_type)
        del self.headers["content-length"]
        self._chunks = chunks
        self._heartbeat = heartbeat
        self._seconds = seconds
        self._left = left
        self._sending = True
        """The client has not taken yet what is being sent, or there is nothing more to send."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sender = asyncio.create_task(self._send(send), name="response")
        gone = asyncio.create_task(_disconnected(receive), name="response:disconnect")
        beat: asyncio.Task[None] | None = None
        try:
            while not await _any_of(sender, gone, self._seconds):
                # Whoever has not taken what is being sent needs no sign of life, and none is waited for: an abort does not
                # depend on who reads.
                if not self._sending and (beat is None or beat.done()):
                    beat = asyncio.create_task(self._beat(send), name="response:heartbeat")
            left = sender.result() if sender.done() and not sender.cancelled() else Left.DISCONNECTED
        finally:
            tasks = [task for task in (sender, gone, beat) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if left is not Left.ENDED:
            await self._left(left)

    async def _send(self, send: Send) -> Left:
        # All that is there in one turn of the loop: then a server writes to the socket once.
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        self._sending = False
        try:
            async with aclosing(self._chunks) as chunks:
                async for chunk in chunks:
                    self._sending = True
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                    self._sending = False
        except (StreamCut, *DATABASE_UNAVAILABLE):
            return Left.CUT
        self._sending = True
        await self._left(Left.ENDED)
        await send({"type": "http.response.body", "body": b""})
        return Left.ENDED

    async def _beat(self, send: Send) -> None:
        if not self._sending:  # since it was made
            await send({"type": "http.response.body", "body": self._heartbeat, "more_body": True})


async def _any_of(sender: asyncio.Task[Left], gone: asyncio.Task[None], seconds: float) -> bool:
    """Whether one of them is done within the time."""
    done, _ = await asyncio.wait({sender, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    return bool(done)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def thread_answer(
    chunks: AsyncGenerator[bytes], headers: Mapping[str, str], settings: Settings, bounds: Bounds | None
) -> Response:
    """The answer to a reader of a thread, on whom no run depends; whole where answers are collected whole."""
    if bounds is not None and not bounds.live:
        body = b"".join([chunk async for chunk in chunks])
        return Response(body, headers=dict(headers), media_type=sse.MEDIA_TYPE)
    return OpenResponse(
        chunks,
        media_type=sse.MEDIA_TYPE,
        headers=headers,
        heartbeat=sse.HEARTBEAT,
        seconds=settings.heartbeat_seconds,
    )
