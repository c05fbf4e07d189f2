"""A blob in a temporary file, for code that needs a file, and blocks."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import IO, Any, TypeVar

from slackwater.blobs.blobs import Blobs
from slackwater.kit.threads import Threads

T = TypeVar("T")


class TemporaryCopy:
    """The file, and the threads in which it is used."""

    def __init__(self, threads: Threads, file: IO[bytes]) -> None:
        self._threads = threads
        self._file = file

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call `function` with the file, in a thread."""
        return await _call(self._threads, function, self._file, *arguments)


@asynccontextmanager
async def temporary_copy(blobs: Blobs, key: str, threads: Threads) -> AsyncGenerator[TemporaryCopy]:
    """On disk, and not in memory; gone at the end, also that of the process. Raises BlobGone and StoreSilent."""
    file: IO[bytes] = await _call(threads, tempfile.TemporaryFile)
    try:
        async with aclosing(blobs.read(key)) as pieces:
            async for piece in pieces:
                await _call(threads, file.write, piece)
        yield TemporaryCopy(threads, file)
    finally:
        threads.submit_last("close", file.close)


async def _call(threads: Threads, function: Callable[..., T], *arguments: Any) -> T:
    return await asyncio.wrap_future(threads.submit("copies", lambda: function(*arguments)))
