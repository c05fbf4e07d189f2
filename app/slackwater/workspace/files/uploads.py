"""One request of uploads: each part becomes a staged blob while it arrives, and in the end all of them become files, or none.

Whoever is stopped in between leaves staged blobs, which nobody sees and the sweep deletes.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Collection
from contextlib import aclosing
from dataclasses import dataclass
from uuid import UUID

from starlette.requests import Request

from slackwater.blobs import queries
from slackwater.blobs.blobs import PIECE_BYTES, Blobs, new_key
from slackwater.blobs.queries import NewFile
from slackwater.errors import ApiError, BadRequest
from slackwater.postgres.pool import Database
from slackwater.project.gateway import Uploads
from slackwater.workspace.files.form import (
    HEADER_BYTES,
    FormEvent,
    PartBegins,
    PartEnds,
    UploadTooSlow,
    boundary_of,
    events_of,
)
from slackwater.workspace.files.names import UPLOADS, name_of, unique

UPLOAD_SECONDS = 900.0
"""How long an upload may take as a whole: far less than a blob may be staged."""


class NoFiles(BadRequest):
    """No files provided"""


class TooManyUploads(ApiError):
    """Too many files"""

    status = 413

    def __init__(self, most: int = 10) -> None:
        super().__init__(f"Too many files: at most {most} at a time")


class FileTooLarge(ApiError):
    """File too large"""

    status = 413

    def __init__(self, name: str = "report.pdf") -> None:
        super().__init__(f"File too large: {name}")


class UploadTooLarge(ApiError):
    """Total upload size too large: send fewer files at a time"""

    status = 413


@dataclass(frozen=True, slots=True)
class Received:
    """A file of the request, staged."""

    name: str
    original: str
    """What it was called by whoever sent it."""
    new: NewFile


class Reception:
    """Receives the files of one request."""

    def __init__(
        self, database: Database, blobs: Blobs, bounds: Uploads, owner: str, thread_id: UUID
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._bounds = bounds
        self._owner = owner
        self._thread_id = thread_id
        self._parts = 0
        self._total = 0
        self._taken: set[str] = set()
        self.received: list[Received] = []
        self.skipped: list[str] = []
        """Names that no file may have."""
        self.staged: list[str] = []

    async def receive(self, request: Request) -> None:
        """Stage all files of the form. Raises the errors of this module and of `form`, and StoreSilent."""
        boundary = boundary_of(request)
        self._require_room(request)
        try:
            async with asyncio.timeout(UPLOAD_SECONDS), aclosing(events_of(request, boundary)) as events:
                async for event in events:
                    match event:
                        case PartBegins(None):
                            pass  # another field of the form
                        case PartBegins(str() as filename):
                            await self._file(filename, events)
                        case bytes():
                            self._count(event)
        except TimeoutError:
            raise UploadTooSlow from None
        if not self._parts:
            raise NoFiles

    async def add(self, path: str, content: bytes) -> NewFile:
        """Stage one more, made from what was received."""

        async def chunks() -> AsyncIterator[bytes]:
            yield content

        key = await self._new_key()
        return NewFile(path, key, await self._blobs.put(key, chunks()), hashlib.sha256(content).hexdigest())

    async def discard(self) -> None:
        """Leave what was staged to the sweep."""
        if self.staged:
            await queries.discard(self._database, self.staged)

    def take(self, name: str, others: Collection[str] = ()) -> str:
        """The name, or one like it that no other file of the request has, and none of `others`."""
        name = unique(name, self._taken.union(others))
        self._taken.add(name)
        return name

    def _require_room(self, request: Request) -> None:
        """Refuse what says that it is too large, before any of it is read."""
        declared = request.headers.get("content-length", "")
        overhead = (self._bounds.max_files + 1) * HEADER_BYTES
        if declared.isdecimal() and int(declared[:20]) > self._bounds.max_total_size + overhead:
            raise UploadTooLarge

    async def _file(self, filename: str, events: AsyncIterator[FormEvent]) -> None:
        self._parts += 1
        if self._parts > self._bounds.max_files:
            raise TooManyUploads(self._bounds.max_files)
        original = name_of(filename)
        if original is None:
            self.skipped.append(filename)
            return  # its bytes are counted, and go nowhere
        key, digest = await self._new_key(), hashlib.sha256()
        size = await self._blobs.put(key, self._content(original, events, digest))
        name = self.take(original)
        new = NewFile(f"{UPLOADS}{name}", key, size, digest.hexdigest())
        self.received.append(Received(name, original, new))

    async def _content(
        self, name: str, events: AsyncIterator[FormEvent], digest: hashlib._Hash
    ) -> AsyncIterator[bytes]:
        size, gathered = 0, bytearray()
        async for event in events:
            if isinstance(event, PartEnds):
                break
            assert isinstance(event, bytes)
            size += len(event)
            if size > self._bounds.max_file_size:
                raise FileTooLarge(name)
            self._count(event)
            digest.update(event)
            gathered += event
            if len(gathered) >= PIECE_BYTES:
                yield bytes(gathered)
                gathered.clear()
        if gathered:
            yield bytes(gathered)

    def _count(self, data: bytes) -> None:
        self._total += len(data)
        if self._total > self._bounds.max_total_size:
            raise UploadTooLarge

    async def _new_key(self) -> str:
        key = new_key(self._owner, self._thread_id)
        await queries.stage(self._database, [key])
        self.staged.append(key)
        return key
