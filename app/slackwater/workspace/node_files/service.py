"""Fetches the files of a thread into a folder, and stores what nodes have changed there."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from contextvars import Context
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from slackwater.blobs.blobs import Blobs, StoreSilent
from slackwater.errors import OutsideRun, SlackwaterError
from slackwater.kit.threads import Threads
from slackwater.postgres import conninfo
from slackwater.postgres.pool import BoundedConnection, Database, Row
from slackwater.postgres.retry import retrying
from slackwater.workspace.node_files import folder
from slackwater.workspace.node_files.folder import StoredFile
from slackwater.workspace.node_files.mirroring import Mirror, Mirroring, each
from slackwater.workspace.node_files.queries import FILES, Changes

if TYPE_CHECKING:
    from psycopg.rows import DictRow

    from slackwater.runtime.execution.node_files import Retrying
    from slackwater.runtime.execution.owning_loop import OwningLoop
    from slackwater.workspace.home.service import Homes

T = TypeVar("T")

log = logging.getLogger(__name__)

THREADS = 16
FETCH_AGAIN = 5
"""How often a list of files is read again because one of them was replaced meanwhile."""
BLOCKED_SECONDS = 10.0
"""How long a node may hold up the event loop until its files are there."""
IDLE_TURNS = 100
"""After so many turns of the event loop LangGraph is not going to store the checkpoint that a boundary was waited for."""


class LoopBlocked(SlackwaterError):
    """The files of the thread could not be fetched in 10 s, in which the event loop stood still: use `await auser_data()` in async code."""


class FilesOfRuns:
    """The files of all runs of the process."""

    def __init__(self, database: Database, blobs: Blobs, most: int) -> None:
        """`most`: bytes of an owner who has no limit of their own; 0: no limit."""
        self.database, self.blobs, self.most = database, blobs, most
        self.homes: Homes | None = None
        """If the project's code has its files at a fixed path, those of threads are there, too."""
        self.threads = Threads("node-files", THREADS, THREADS)
        self._removing: set[Any] = set()
        self._base, self._one_at_a_time = folder.Base(), Lock()

    def of(self, owner: str, thread_id: UUID, loop: OwningLoop, retrying: Retrying) -> FilesOfRun:
        """Those of a run. Nothing is done yet."""
        return FilesOfRun(self, owner, thread_id, loop, retrying)

    async def call(self, work: Callable[[], T]) -> T:
        """What `work` returns, in a thread; from any loop."""
        return await asyncio.wrap_future(self.threads.submit(self, work))

    def new_folder(self) -> Path:
        """A new folder. Blocks."""
        with self._one_at_a_time:
            return self._base.new()

    def remove(self, root: Path) -> None:
        """Begin to delete a folder."""
        self.begin_removal(lambda: folder.remove(root))

    def begin_removal(self, work: Callable[[], None]) -> None:
        """Begin what deletes a folder."""
        removal = self.threads.submit_last(self, work)
        if removal is not None:  # else the whole folder of the process has gone
            self._removing.add(removal)
            removal.add_done_callback(self._removing.discard)

    async def stop(self, timeout: float) -> None:
        """Wait, `timeout` seconds at most, until the folders of what is over are gone."""
        deadline = time.monotonic() + timeout
        if self.homes is not None:
            await self.homes.stop(timeout / 2)
        waiting = {asyncio.ensure_future(asyncio.wrap_future(removal)) for removal in list(self._removing)}
        if waiting:
            await asyncio.wait(waiting, timeout=max(0.0, deadline - time.monotonic()))
        ending = asyncio.ensure_future(self.call(self._base.end))
        await asyncio.wait({ending}, timeout=max(0.05, deadline - time.monotonic()))
        self.threads.close()


class FilesOfRun(Mirroring):
    """The files of one attempt."""

    def __init__(
        self, all_: FilesOfRuns, owner: str, thread_id: UUID, loop: OwningLoop, retrying: Retrying
    ) -> None:
        super().__init__(all_, owner, thread_id, retrying)
        self._loop = loop
        self._at_home = False
        """It has begun in the home folder."""
        self._mirror: Mirror | None = None
        self._closed = False
        self._lock = Lock()
        """Of the two above: whoever blocks the event loop fills the folder in another thread."""
        self._filling: asyncio.Task[Path] | None = None
        self._storing = asyncio.Lock()
        self._stored: Changes | None = None
        self._put_since_tick = self._due = False

    @property
    def used(self) -> bool:
        return self._mirror is not None

    async def begin(self) -> None:
        """The attempt begins. Raises what `apath` raises, if its files have to be there from the beginning."""
        if self._all.homes is not None:
            self._at_home = True
            await self._all.homes.begin(self._owner, self._retrying)
            await self._fill_once()

    # For nodes

    def path(self) -> Path:
        """The folder, made when somebody asks first. Blocks. Raises OutsideRun, StoreSilent, and psycopg's errors."""
        if (root := self._root()) is not None:
            return root
        if not self._loop.here:
            return self._loop.call(self._fill_once)
        # An async node does not await: nothing of this loop can help, neither the pool nor a task.
        filling = self._all.threads.submit(self, lambda: asyncio.run(self._fill(self._rows_apart)))
        try:
            return filling.result(BLOCKED_SECONDS)
        except TimeoutError:
            raise LoopBlocked from None

    async def apath(self) -> Path:
        """The same without blocking, in any loop."""
        root = self._root()
        return root if root is not None else await self._loop.run(self._fill_once)

    def _root(self) -> Path | None:
        if self._closed:
            raise OutsideRun
        return self._mirror.root if self._mirror is not None else None

    async def _fill_once(self) -> Path:
        if (root := self._root()) is not None:
            return root
        if self._filling is None or self._filling.done():
            # No node's task: it is not cut with the node that has asked first, as others wait for it, too.
            self._filling = asyncio.create_task(
                self._fill(self._rows), name=f"files:{self._thread_id}", context=Context()
            )
        return await asyncio.shield(self._filling)

    async def _fill(self, rows_of: Callable[[], Awaitable[list[Row]]]) -> Path:
        root = await self._all.call(self._new_folder)
        try:
            await self._all.call(lambda: folder.make(root))
            mirror = Mirror(root, await self._fetched(root, rows_of))
        except BaseException:
            self._remove(root)
            raise
        with self._lock:
            if self._mirror is None and not self._closed:
                self._mirror = mirror
        if self._mirror is not mirror:  # another call was faster, or the attempt is over
            self._remove(root)
        return self._root() or root

    async def _fetched(
        self, root: Path, rows_of: Callable[[], Awaitable[list[Row]]]
    ) -> dict[str, StoredFile]:
        """All files, as a list of them says; it is read again if one of them was replaced before it was read."""
        kept: dict[str, StoredFile] = {}
        for _ in range(FETCH_AGAIN):
            rows = await rows_of()
            paths = {row["path"] for row in rows}
            for path in [path for path in kept if path not in paths]:
                await self._all.call((root / path).unlink)
                del kept[path]
            wanted = [row for row in rows if self._is_wanted(row, kept)]
            fetched = await each(wanted, lambda row: self.fetch(root, row))
            kept |= {path: found for path, found in fetched if found is not None}
            if all(found is not None or path in self._unfit for path, found in fetched):
                return kept
        raise StoreSilent("The files of the thread are being changed all the time: try again.")

    def _is_wanted(self, row: Row, kept: dict[str, StoredFile]) -> bool:
        path = row["path"]
        return path not in self._unfit and (path not in kept or kept[path].blob != row["blob"])

    async def _rows(self) -> list[Row]:
        return await self._retrying(lambda: self._all.database.fetch(FILES, self._key))

    async def _rows_apart(self) -> list[Row]:
        """The same by a connection of its own, as the pool's belong to a loop that is blocked."""
        return await retrying(self._rows_by_own_connection, until=time.monotonic() + BLOCKED_SECONDS)

    async def _rows_by_own_connection(self) -> list[Row]:
        from psycopg.rows import dict_row

        connection: BoundedConnection = await conninfo.connect(
            BoundedConnection,
            self._all.database.conninfo,
            autocommit=True,
            row_factory=dict_row,
            prepare_threshold=None,
        )
        try:
            found: list[DictRow] = await (await connection.execute(FILES, self._key)).fetchall()
            return found
        finally:
            await connection.close()

    @property
    def _key(self) -> dict[str, Any]:
        return {"owner": self._owner, "thread_id": self._thread_id}

    # For the checkpointer

    def ticked(self) -> None:
        """A graph begins its next superstep, or ends: what was changed until now belongs to the checkpoint before."""
        self._due, self._put_since_tick = not self._put_since_tick, False

    def passed(self) -> None:
        """A checkpoint is stored before which no node has run."""
        self._put_since_tick, self._due = not self._due, False

    async def settled(self) -> None:
        """Wait until what belongs to the last checkpoint is stored, so that nodes may go on with their files."""
        turns = 0
        while self.used and (self._due or self._storing.locked()) and turns < IDLE_TURNS:
            if self._storing.locked():
                async with self._storing:
                    pass
            else:
                turns += 1
                await asyncio.sleep(0)
        self._due = False

    async def store(self, until: float = math.inf) -> None:
        """Store the bytes of what has changed, but for what was written later. Raises StoreSilent and TooManyFiles."""
        if self._mirror is None:
            return
        async with self._storing:
            if self._at_home and self._all.homes is not None:
                await self._all.homes.push(self._owner, self._retrying)
            # With durability `async` the boundary comes first, and else this does.
            self.passed()
            changes = await self.changes(self._mirror, until)
            if changes is not None:
                self._stored = self._stored.merged(changes) if self._stored is not None else changes

    def take(self) -> Changes | None:
        """What has been stored and is in no checkpoint yet: it has to go with the next one."""
        stored, self._stored = self._stored, None
        return stored

    def close(self) -> None:
        """The attempt is over: the folder goes."""
        with self._lock:
            self._closed = True
        if self._filling is not None and not self._filling.done():
            self._filling.cancel()
        if self._mirror is not None:
            self._remove(self._mirror.root)
        if self._at_home and self._all.homes is not None:
            self._all.homes.end(self._owner)
            self._at_home = False

    def _new_folder(self) -> Path:
        homes = self._all.homes
        return (
            self._all.new_folder()
            if homes is None
            else homes.place.new_thread(self._owner, self._thread_id, self)
        )

    def _remove(self, root: Path) -> None:
        if (homes := self._all.homes) is None:
            self._all.remove(root)
        else:
            self._all.begin_removal(lambda: homes.place.end_thread(root, self))
