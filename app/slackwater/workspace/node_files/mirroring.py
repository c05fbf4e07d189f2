"""A folder that mirrors stored files: what is fetched into it, and what is stored of it."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextvars import Context
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from slackwater.blobs import queries as blob_queries
from slackwater.blobs.blobs import BlobGone, StoreSilent, new_key
from slackwater.blobs.queries import NewFile
from slackwater.errors import TooManyFiles
from slackwater.postgres.pool import Row
from slackwater.workspace.node_files import folder
from slackwater.workspace.node_files.folder import PARTS, LocalFile, StoredFile
from slackwater.workspace.node_files.queries import Changes

if TYPE_CHECKING:
    from slackwater.runtime.execution.node_files import Retrying
    from slackwater.workspace.node_files.service import FilesOfRuns

T = TypeVar("T")

log = logging.getLogger(__name__)

AT_ONCE = 8
"""So many files are fetched or stored at a time, of each run."""
STORE_SECONDS = 10.0
"""How long a store that does not answer is asked again."""
AGAIN_SECONDS = 0.2


class Mirror:
    """A folder that has been filled, and what is in it."""

    def __init__(
        self,
        root: Path,
        kept: dict[str, StoredFile],
        parts: Collection[str] = PARTS,
        without: Collection[str] = (),
    ) -> None:
        """`parts`: the folders in it that are looked through; "" is all of it, `without` these."""
        self.root, self.kept, self.parts, self.without = root, kept, parts, without


class Mirroring:
    """Fetches and stores for a thread of an owner. All of it for one mirror at a time."""

    def __init__(self, all_: FilesOfRuns, owner: str, thread_id: UUID, retrying: Retrying) -> None:
        self._all, self._owner, self._thread_id, self._retrying = all_, owner, thread_id, retrying
        self._unfit: set[str] = set()
        """Stored files that cannot be on this disk."""

    async def fetch(self, root: Path, row: Row) -> tuple[str, StoredFile | None]:
        """A file; None if it is gone, or cannot be on this disk."""
        path, target = row["path"], LocalFile(root, row["path"], writes=True)
        try:
            await self._all.call(lambda: target.write(b""))
            async for piece in self._all.blobs.read(row["blob"]):
                await self._all.call(lambda piece=piece: target.write(piece))  # type: ignore[misc]
            await self._all.call(lambda: target.date(row["modified_at"].timestamp()))
        except BlobGone:
            return path, None
        except OSError as error:
            if not folder.is_unfit(error):
                raise
            self._unfit.add(path)
            log.warning(
                "a file of the thread cannot be on this disk, and is left out: %s",
                error.strerror,
                extra={"event": "files.unfit", "thread_id": str(self._thread_id), "path": path[:200]},
            )
            return path, None
        finally:
            target.close()
        stamp = await self._all.call(lambda: folder.stamp_of(root, path))
        return path, StoredFile(row["blob"], row["size"], row["sha256"], stamp)

    async def changes(self, mirror: Mirror, until: float = math.inf) -> Changes | None:
        """What has changed in the folder, its bytes stored and staged. `mirror.kept` is what it has become. Raises StoreSilent and TooManyFiles."""
        found = await self._all.call(
            lambda: folder.look(mirror.root, mirror.kept, until, mirror.parts, mirror.without)
        )
        if found.root_is_gone:
            mirror.kept.clear()
            return None
        if found.too_many:
            raise TooManyFiles(f"There may be {folder.MAX_FILES} files: there are more in the folder.")
        if found.skipped:
            log.warning(
                "links, and names that are no text, are not stored",
                extra={
                    "event": "files.skipped",
                    "thread_id": str(self._thread_id),
                    "paths": found.skipped[:10],
                },
            )
        stored = dict(await each(sorted(found.changed), lambda path: self._store(mirror, path)))
        saved = {
            path: kept for path, kept in stored.items() if kept is not None and _is_new(mirror, path, kept)
        }
        gone = {path: mirror.kept.pop(path).blob for path in found.gone}
        mirror.kept |= {path: kept for path, kept in stored.items() if kept is not None}
        if not (saved or gone):
            return None
        new = {path: NewFile(path, kept.blob, kept.size, kept.sha256) for path, kept in saved.items()}
        return Changes(self._owner, self._thread_id, self._all.most, new, gone)

    async def _store(self, mirror: Mirror, path: str) -> tuple[str, StoredFile | None]:
        """A file that was written; None if it is gone, or is being written still: then it waits for the next checkpoint."""
        deadline = time.monotonic() + STORE_SECONDS
        while True:
            try:
                return path, await self._store_once(mirror, path)
            except FileNotFoundError:
                return path, None
            except StoreSilent:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(AGAIN_SECONDS)

    async def _store_once(self, mirror: Mirror, path: str) -> StoredFile | None:
        before = await self._all.call(lambda: folder.stamp_of(mirror.root, path))
        known = mirror.kept.get(path)
        if known is not None and known.size == before.size and known.sha256 is not None:
            source = LocalFile(mirror.root, path)
            try:
                await self._all.call(source.read_all)
            finally:
                source.close()
            if source.sha256 == known.sha256:
                return StoredFile(known.blob, known.size, known.sha256, before)
        key = new_key(self._owner, self._thread_id)
        await self._retrying(lambda: blob_queries.stage(self._all.database, [key]))
        source = LocalFile(mirror.root, path)
        try:
            await self._all.blobs.put(key, self._pieces(source))
        finally:
            source.close()
        if before != await self._all.call(lambda: folder.stamp_of(mirror.root, path)):
            await self._retrying(lambda: blob_queries.discard(self._all.database, [key]))
            return None
        return StoredFile(key, source.size, source.sha256, before)

    async def _pieces(self, source: LocalFile) -> AsyncIterator[bytes]:
        while piece := await self._all.call(source.read):
            yield piece


def _is_new(mirror: Mirror, path: str, kept: StoredFile) -> bool:
    before = mirror.kept.get(path)
    return before is None or before.blob != kept.blob


async def each(items: list[Any], work: Callable[[Any], Awaitable[T]]) -> list[T]:
    """What `work` makes of each, a few at a time. The first error ends it."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(item: Any) -> T:
        async with limit:
            return await work(item)

    # Not in the context of a node: its tasks are counted, and cut.
    tasks = [asyncio.create_task(one(item), context=Context()) for item in items]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
