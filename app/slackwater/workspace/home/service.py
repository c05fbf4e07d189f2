"""Keeps each owner's part of the home folder at what is stored, and stores what the project's code has changed in it.

The files of a thread below it are those of the run, as everywhere: see `workspace/node_files`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from slackwater.blobs import queries as blob_queries
from slackwater.blobs.blobs import StoreSilent
from slackwater.blobs.queries import NewFile
from slackwater.kit.repeated import Repeated
from slackwater.postgres.pool import Row
from slackwater.postgres.retry import retrying
from slackwater.workspace.home import queries
from slackwater.workspace.home.place import HomePlace
from slackwater.workspace.node_files import folder
from slackwater.workspace.node_files.folder import StoredFile
from slackwater.workspace.node_files.mirroring import STORE_SECONDS, Mirror, Mirroring, each

if TYPE_CHECKING:
    from slackwater.workspace.node_files.service import FilesOfRuns

T = TypeVar("T")

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""How often a folder is looked through for what was written after the end of its run."""
IDLE_SECONDS = 120.0
"""So long after its last run an owner's folder stays. DeerFlow writes what it remembers 30 seconds after what was said."""
ROUNDS = 5
"""How often what somebody else has stored meanwhile is read again."""


class Homes:
    """Those of all owners that have runs here, or had lately."""

    def __init__(self, all_: FilesOfRuns, place: HomePlace, *, looks: bool) -> None:
        """`looks`: folders are looked through beside runs, too; not so where the process is frozen between requests."""
        self.place = place
        self._all, self._looks = all_, looks
        self._owners: dict[str, OwnerHome] = {}
        self._rounds = Repeated("home", self._round, lambda: LOOK_SECONDS if self._owners else None)

    async def begin(self, owner: str) -> None:
        """A run of the owner begins: it finds what is stored. Raises StoreSilent, TooManyFiles and TooManyFileBytes."""
        home = self._owners.get(owner)
        if home is None:
            home = self._owners[owner] = OwnerHome(self._all, owner, self.place)
        home.runs += 1
        await home.begin()
        if self._looks:
            self._rounds.look()
        else:
            await self._round()

    def end(self, owner: str) -> None:
        """A run that has begun has ended."""
        home = self._owners[owner]
        home.runs -= 1
        home.left_at = time.monotonic()

    async def push(self, owner: str) -> None:
        """Store what has changed. Raises as `begin`; then it is stored another time."""
        await self._owners[owner].push()

    async def stop(self, seconds: float) -> None:
        """Store within so many seconds what has changed, and look no more."""
        await self._rounds.stop()
        pushes = {asyncio.create_task(self._pushed(home), name="home:last") for home in self._owners.values()}
        if pushes:
            _, late = await asyncio.wait(pushes, timeout=seconds)
            for push in late:
                push.cancel()
            if late:
                await asyncio.wait(late)
                log.error(
                    "changes in the home folder of %d owners are left on the disk: they could not be stored in time",
                    len(late),
                    extra={"event": "home.left", "owners": len(late)},
                )

    async def _round(self) -> None:
        for owner, home in list(self._owners.items()):
            idle = not home.runs and time.monotonic() - home.left_at > IDLE_SECONDS
            if await (self._left(home) if idle else self._pushed(home)) and idle and not home.runs:
                del self._owners[owner]

    async def _left(self, home: OwnerHome) -> bool:
        return await self._try(home.leave)

    async def _pushed(self, home: OwnerHome) -> bool:
        return await self._try(home.push)

    async def _try(self, work: Callable[[], Awaitable[None]]) -> bool:
        try:
            await work()
        except Exception as error:
            log.warning(
                "changes in a home folder are not stored yet: %s", error, extra={"event": "home.unstored"}
            )
            return False
        return True


class OwnerHome(Mirroring):
    """The part of one owner, on this disk."""

    def __init__(self, all_: FilesOfRuns, owner: str, place: HomePlace) -> None:
        super().__init__(all_, owner, queries.home_of(owner), _patiently)
        self.runs = 0
        """How many of the owner's runs go on here."""
        self.left_at = time.monotonic()
        """When the last one has ended."""
        self._place = place
        self._mirror = Mirror(place.of_owner(owner), {}, parts=("",), without=("threads",))
        self._filled = False
        """It has been brought up to date once."""
        self._mark = _new_mark()
        """What the files are called that were changed here and elsewhere, since the folder was brought up to date."""
        self._lock = asyncio.Lock()

    async def begin(self) -> None:
        """What others have stored is fetched, unless another run goes on here: that has read what there is, and may write it again."""
        async with self._lock:
            await self._push()
            await self._all.call(lambda: self._mirror.root.mkdir(mode=0o700, parents=True, exist_ok=True))
            if self.runs == 1 or not self._filled:
                await self._pull()
                self._filled = True

    async def push(self) -> None:
        """Store what has changed."""
        async with self._lock:
            await self._push()

    async def leave(self) -> None:
        """Store what has changed and delete the folder, unless a run has begun meanwhile."""
        async with self._lock:
            await self._push()
            if not self.runs:
                await self._all.call(lambda: self._place.end_owner(self._owner))
                self._empty()

    def _empty(self) -> None:
        """The folder is no longer there."""
        self._mirror.kept.clear()
        self._filled = False

    async def _push(self) -> None:
        mirror, before = self._mirror, dict(self._mirror.kept)
        if not await self._all.call(mirror.root.is_dir):
            self._empty()  # whoever clears a disk deletes nobody's files
            return
        try:
            changes = await self.changes(mirror)
            if changes is None:
                return
            bases: dict[str, str] = {path: kept.blob for path, kept in before.items()}
            new, gone = dict(changes.saved), changes.gone
            for _ in range(ROUNDS):
                stored = await self._store_rows(new, bases, gone)
                new = {path: file for path, file in new.items() if path not in stored}
                if not new:
                    return
                new, gone = await self._set_aside(new, bases), {}
            raise StoreSilent(_CHANGING)
        except BaseException:
            mirror.kept = before  # so that all of it is looked at again
            raise

    async def _store_rows(
        self, new: Mapping[str, NewFile], bases: Mapping[str, str], gone: Mapping[str, str]
    ) -> frozenset[str]:
        files, database, most = list(new.values()), self._all.database, self._all.most
        based = [bases.get(file.path) for file in files]
        return await _patiently(lambda: queries.store(database, self._owner, files, based, gone, most))

    async def _set_aside(self, new: Mapping[str, NewFile], bases: dict[str, str]) -> dict[str, NewFile]:
        """What was not stored, as somebody else has stored something else: it is kept beside that, by another name."""
        rows, wanted, kept = await self._rows(), dict[str, NewFile](), self._mirror.kept
        for path, file in new.items():
            there = rows.get(path)
            if there is None:
                bases.pop(path, None)
                wanted[path] = file  # it was deleted: who writes is right
            elif there["sha256"] == file.sha256 and path in kept:
                kept[path] = StoredFile(there["blob"], there["size"], there["sha256"], kept[path].stamp)
                await blob_queries.discard(self._all.database, [file.blob])
            else:
                beside = f"{path}.conflict-{self._mark}"
                wanted[beside] = NewFile(beside, file.blob, file.size, file.sha256)
                if beside in rows:
                    bases[beside] = rows[beside]["blob"]
                if path in kept:
                    # What is based on this is not based on theirs, until that is fetched.
                    kept[path] = StoredFile("", -1, None, kept[path].stamp)
                log.warning(
                    "a file of a home folder was changed by two at once: one of them is kept as %s",
                    beside,
                    extra={"event": "home.conflict", "owner": self._owner, "path": beside[:200]},
                )
        return wanted

    async def _pull(self) -> None:
        kept, late = self._mirror.kept, set[str]()
        for _ in range(ROUNDS):
            rows = await self._rows()
            for path in [path for path in kept if path not in rows]:
                await self._all.call(lambda path=path: self._remove(path))  # type: ignore[misc]
            wanted = [
                row
                for path, row in rows.items()
                if path not in self._unfit | late and (path not in kept or kept[path].blob != row["blob"])
            ]
            if not wanted:
                self._mark = _new_mark()
                return
            aside = await self._all.call(self._place.temporary)
            try:
                left = await each(wanted, partial(self._bring, aside))
                late |= {path for path in left if path is not None}
            finally:
                self._all.remove(aside)
        raise StoreSilent(_CHANGING)

    async def _rows(self) -> dict[str, Row]:
        found = await _patiently(lambda: queries.rows(self._all.database, self._owner))
        return {row["path"]: row for row in found}

    async def _bring(self, aside: Path, row: Row) -> str | None:
        """Fetch a file; its path, if it was written here meanwhile."""
        path, fetched = await self.fetch(aside, row)
        if fetched is not None and not await self._all.call(lambda: self._move(aside, path, fetched)):
            return path
        return None

    def _move(self, aside: Path, path: str, fetched: StoredFile) -> bool:
        """Into its place; False if the project's code has written there since it was looked at."""
        mirror, target = self._mirror, self._mirror.root / path
        kept = mirror.kept.get(path)
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if os.path.lexists(target) and (kept is None or folder.stamp_of(mirror.root, path) != kept.stamp):
                return False
            os.replace(aside / path, target)
        except OSError as error:
            if not folder.is_unfit(error):
                raise
            self._unfit.add(path)
            return True
        stamp = folder.stamp_of(mirror.root, path)
        mirror.kept[path] = StoredFile(fetched.blob, fetched.size, fetched.sha256, stamp)
        return True

    def _remove(self, path: str) -> None:
        kept = self._mirror.kept.pop(path)
        with suppress(FileNotFoundError):
            if folder.stamp_of(self._mirror.root, path) == kept.stamp:
                (self._mirror.root / path).unlink()


_CHANGING = "The files of the home folder are being changed all the time: try again."


def _new_mark() -> str:
    return os.urandom(4).hex()


async def _patiently(ask: Callable[[], Awaitable[T]]) -> T:
    return await retrying(ask, until=time.monotonic() + STORE_SECONDS)
