"""Sends a file piece by piece, no faster than its reader reads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from slackwater.blobs.blobs import BlobGone, StoreSilent

log = logging.getLogger(__name__)

PIECE_SECONDS = 60.0
"""How long a client may take to read a piece."""


class FileResponse(Response):
    """A part of a file, or all of it. What goes wrong in the middle aborts it: its length has been said."""

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        length: int,
        first: bytes = b"",
        rest: AsyncGenerator[bytes] | None = None,
    ) -> None:
        super().__init__(None, status, {**headers, "Content-Length": str(length)})
        self._first = first
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._send(send)
        finally:
            if self._rest is not None:
                await self._rest.aclose()

    async def _send(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        await send(start)
        try:
            await _in_time(send, self._first, more=self._rest is not None)
            if self._rest is None:
                return
            async with aclosing(self._rest) as pieces:
                async for piece in pieces:
                    await _in_time(send, piece, more=True)
            await _in_time(send, b"", more=False)
        except (TimeoutError, BlobGone, StoreSilent) as error:
            log.info(
                "a file was not sent to its end",
                extra={"event": "file.unsent", "error": type(error).__name__},
            )


async def _in_time(send: Send, piece: bytes, *, more: bool) -> None:
    async with asyncio.timeout(PIECE_SECONDS):
        await send({"type": "http.response.body", "body": piece, "more_body": more})
