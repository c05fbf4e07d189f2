"""Blobs in a folder. Several processes that share it have to have the same database, too."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TypeVar

from slackwater.blobs.blobs import PIECE_BYTES, BlobGone, PresignedUpload, silent
from slackwater.kit.threads import Threads

T = TypeVar("T")

THREADS = 16
"""Those of all reads and writes of the process."""

_KEY = re.compile(r"[0-9a-f]{32}/[0-9a-f]{32}")

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class LocalBlobs:
    """Each blob is a file below the folder; while it is being written, it has another name."""

    presigns = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._threads = Threads("blobs", THREADS, THREADS)

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        file, size = _Written(self._path(key)), 0
        try:
            await self._call(file.create)
            async for chunk in chunks:
                await self._call(file.write, chunk)
                size += len(chunk)
            await self._call(file.finish)
        except BaseException:
            # Not awaited: this may be a cancellation. What a stop prevents here, the sweep does.
            self._threads.submit_last(self, file.give_up)
            raise
        return size

    async def read(self, key: str, start: int = 0, length: int | None = None) -> AsyncGenerator[bytes]:
        file, left = _Read(self._path(key), start), length
        try:
            while left is None or left > 0:
                piece = await self._call(file.read, PIECE_BYTES if left is None else min(left, PIECE_BYTES))
                if not piece:
                    if left is not None:
                        raise BlobGone
                    return
                if left is not None:
                    left -= len(piece)
                yield piece
        finally:
            self._threads.submit_last(self, file.close)

    async def size(self, key: str) -> int | None:
        return await self._call(_size, self._path(key))

    async def delete(self, keys: Collection[str], *, abandoned: bool = False) -> None:
        for key in keys:
            path = self._path(key)
            await self._call(_unlink, path)
            if abandoned:
                await self._call(_unlink, _being_written(path))

    async def upload_url(self, key: str, size: int, seconds: float) -> PresignedUpload:
        raise NotImplementedError

    async def download_url(self, key: str, seconds: float, *, content_type: str, disposition: str) -> str:
        raise NotImplementedError

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no key of a blob")
        # Fan-out, as folders with very many entries are slow.
        return self._folder / key[:2] / key

    def close(self) -> None:
        """End its threads."""
        self._threads.close()

    async def _call(self, function: Callable[..., T], *arguments: object) -> T:
        try:
            return await asyncio.wrap_future(self._threads.submit(self, lambda: function(*arguments)))
        except OSError as error:
            raise silent(error) from error


class _Written:
    """A file that is being written. Whoever waits for a thread may be cancelled, and the thread goes on: hence the lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._being_written = _being_written(path)
        self._lock = Lock()
        self._given_up = False
        self._file: int | None = None

    def create(self) -> None:
        with self._lock:
            if self._given_up:
                return
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(self._being_written, _NEW, 0o600)

    def write(self, data: bytes) -> None:
        with self._lock:
            rest = memoryview(data)
            while rest and self._file is not None:
                rest = rest[os.write(self._file, rest) :]

    def finish(self) -> None:
        with self._lock:
            if self._file is None:
                return
            os.fsync(self._file)
            self._close()
            self._being_written.rename(self._path)
            # A name is durable with the folder that it is in.
            for folder in (self._path.parent, self._path.parent.parent, self._path.parent.parent.parent):
                _sync(folder)

    def give_up(self) -> None:
        with self._lock:
            self._given_up = True
            self._close()
            _unlink(self._being_written)
            _unlink(self._path)

    def _close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            os.close(file)


class _Read:
    """A file that is being read."""

    def __init__(self, path: Path, start: int) -> None:
        self._path = path
        self._start = start
        self._lock = Lock()
        self._closed = False
        self._file: int | None = None

    def read(self, size: int) -> bytes:
        with self._lock:
            if self._closed:
                return b""
            if self._file is None:
                try:
                    self._file = os.open(self._path, _READ)
                except FileNotFoundError:
                    raise BlobGone from None
                os.lseek(self._file, self._start, os.SEEK_SET)
            return os.read(self._file, size)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._file is not None:
                os.close(self._file)


def _being_written(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _size(path: Path) -> int | None:
    try:
        return os.stat(path, follow_symlinks=False).st_size
    except FileNotFoundError:
        return None


def _unlink(path: Path) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
