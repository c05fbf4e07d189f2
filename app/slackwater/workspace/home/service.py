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
from slackwater.blobs.files import TooManyFileBytes
from slackwater.blobs.queries import NewFile
from slackwater.errors import TooManyFiles
from slackwater.kit.bounded import bounded
from slackwater.kit.moment import Moment
from slackwater.kit.repeated import Repeated
from slackwater.postgres.pool import Row
from slackwater.postgres.retry import retrying
from slackwater.workspace.home import queries
from slackwater.workspace.home.place import PARTS, WITHOUT, HomePlace
from slackwater.workspace.node_files import folder
from slackwater.workspace.node_files.folder import StoredFile
from slackwater.workspace.node_files.mirroring import STORE_SECONDS, Mirror, Mirroring, each

if TYPE_CHECKING:
    from slackwater.runtime.execution.node_files import Retrying
    from slackwater.workspace.node_files.queries import Changes
    from slackwater.workspace.node_files.service import FilesOfRuns

T = TypeVar("T")

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""How often a folder is looked through for what was written after the end of its run."""
PAUSE_SECONDS = 300.0
"""The longest pause between attempts at what cannot be stored, such as what is over the quota."""
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
        self._owners = {owner: OwnerHome(all_, owner, place, kept) for owner, kept in place.left.items()}
        self._rounding = asyncio.Lock()
        self._looked: Moment | None = None
        """When the last round began."""
        self._rounds = Repeated("home", self._round, lambda: LOOK_SECONDS if self._owners else None)
        if looks:
            self._rounds.look()

    async def begin(self, owner: str, retrying: Retrying) -> None:
        """A run of the owner begins: it finds what is stored. Raises StoreSilent, and what `retrying` raises."""
        home = self._owners.get(owner)
        if home is None:
            home = self._owners[owner] = OwnerHome(self._all, owner, self.place, {})
        await home.begin(retrying)
        if self._looks:
            self._rounds.look()
        elif self._is_due():
            await self._round()

    def end(self, owner: str) -> None:
        """A run that has begun has ended."""
        home = self._owners[owner]
        home.runs -= 1
        home.left_at = time.monotonic()

    async def push(self, owner: str, retrying: Retrying) -> None:
        """Store what has changed. Raises as `begin`, TooManyFiles and TooManyFileBytes; then it is stored another time."""
        await self._owners[owner].push(retrying)

    async def stop(self, seconds: float) -> None:
        """Store within so many seconds what has changed, and look no more."""
        until = time.monotonic() + seconds
        await bounded(self._rounds.stop(), seconds, None)
        pushes = {
            asyncio.create_task(self._try(home, home.push), name="home:last")
            for home in self._owners.values()
        }
        if pushes:
            _, late = await asyncio.wait(pushes, timeout=max(0.0, until - time.monotonic()))
            for push in late:
                push.cancel()
            if late:
                await asyncio.wait(late, timeout=max(0.05, until - time.monotonic()))
                log.error(
                    "changes in the home folder of %d owners are left on the disk: they could not be stored in time",
                    len(late),
                    extra={"event": "home.left", "owners": len(late)},
                )

    def _is_due(self) -> bool:
        return not self._rounding.locked() and (self._looked is None or self._looked.age >= LOOK_SECONDS)

    async def _round(self) -> None:
        async with self._rounding:
            self._looked = Moment.now()
            for owner, home in list(self._owners.items()):
                if time.monotonic() < home.pause_until:
                    continue
                idle = not home.runs and time.monotonic() - home.left_at > IDLE_SECONDS
                work: Callable[[], Awaitable[object]] = home.leave if idle else home.push
                if await self._try(home, work) and not home.runs:
                    del self._owners[owner]

    async def _try(self, home: OwnerHome, work: Callable[[], Awaitable[object]]) -> object:
        """What `work` returns; None if it has failed. Then it has the longer a pause, the more often it has."""
        try:
            done = await work()
        except Exception as error:
            home.failures += 1
            home.pause_until = time.monotonic() + min(LOOK_SECONDS * 2**home.failures, PAUSE_SECONDS)
            _say_unstored(error)
            return None
        home.failures = 0
        return done


def _say_unstored(error: Exception) -> None:
    log.warning("changes in a home folder are not stored yet: %s", error, extra={"event": "home.unstored"})


class OwnerHome(Mirroring):
    """The part of one owner, on this disk."""

    def __init__(self, all_: FilesOfRuns, owner: str, place: HomePlace, kept: dict[str, StoredFile]) -> None:
        """`kept`: what the folder is based on, if a process before this one has left it."""
        super().__init__(all_, owner, queries.home_of(owner), _patiently)
        self.runs = 0
        """How many of the owner's runs go on here."""
        self.left_at = time.monotonic()
        """When the last one has ended."""
        self.failures, self.pause_until = 0, 0.0
        """How often in a row it could not be stored beside runs, and until when that is not tried again."""
        self._place = place
        self._mirror = Mirror(place.of_owner(owner), kept, PARTS, WITHOUT)
        self._indexed = dict(kept)
        """What the index on the disk says."""
        self._fresh = False
        """It was brought up to date since no run went on here."""
        self._unheard: set[str] = set()
        """The blobs of what was sent and may be stored: nobody has heard."""
        self._mark = _new_mark()
        """What the files are called that were changed here and elsewhere, since the folder was brought up to date."""
        self._lock = asyncio.Lock()
        """Whoever holds it also says how long the database is asked again."""

    async def begin(self, retrying: Retrying) -> None:
        """What others have stored is fetched, unless another run goes on here: that has read what there is, and may write it again."""
        if not self.runs:
            self._fresh = False
        self.runs += 1
        async with self._lock:
            self._retrying = retrying
            try:
                await self._push()
            except (TooManyFiles, TooManyFileBytes) as error:
                _say_unstored(error)  # the run may delete some
            await self._all.call(lambda: self._mirror.root.mkdir(mode=0o700, parents=True, exist_ok=True))
            if not self._fresh:
                await self._pull()
                self._fresh = True

    async def push(self, retrying: Retrying | None = None) -> None:
        """Store what has changed."""
        async with self._lock:
            self._retrying = retrying or _patiently
            await self._push()

    async def leave(self) -> bool:
        """Store what has changed and delete the folder; False if a run has begun meanwhile, or something was written."""
        async with self._lock:
            self._retrying = _patiently
            await self._push()
            kept = dict(self._mirror.kept)
            if self.runs or not await self._all.call(lambda: self._place.end_owner(self._owner, kept)):
                return False
            self._empty()
            self._indexed = {}
            return True

    def _empty(self) -> None:
        """The folder is no longer there."""
        self._mirror.kept.clear()
        self._fresh = False

    async def _push(self) -> None:
        mirror, before = self._mirror, dict(self._mirror.kept)
        if not await self._all.call(lambda: folder.is_folder(mirror.root)):
            self._empty()  # whoever clears a disk deletes nobody's files
            return
        try:
            changes = await self.changes(mirror)
            if changes is not None:
                await self._store_changes(changes, before)
        except BaseException:
            mirror.kept = before  # so that all of it is looked at again
            raise
        await self._write_index()

    async def _store_changes(self, changes: Changes, before: Mapping[str, StoredFile]) -> None:
        bases: dict[str, str] = {path: kept.blob for path, kept in before.items()}
        new, gone = dict(changes.saved), changes.gone
        for _ in range(ROUNDS):
            stored = await self._store_rows(new, bases, gone)
            new = {path: file for path, file in new.items() if path not in stored}
            if not new:
                self._unheard.clear()
                return
            new, gone = await self._set_aside(new, bases), {}
        raise StoreSilent(_CHANGING)

    async def _store_rows(
        self, new: Mapping[str, NewFile], bases: Mapping[str, str], gone: Mapping[str, str]
    ) -> frozenset[str]:
        files, database, most = list(new.values()), self._all.database, self._all.most
        based, blobs = [bases.get(file.path) for file in files], {file.blob for file in files}
        self._unheard |= blobs
        try:
            return await self._retrying(
                lambda: queries.store(database, self._owner, files, based, gone, most)
            )
        except TooManyFileBytes:
            self._unheard -= blobs
            await blob_queries.discard(database, blobs)
            raise

    async def _write_index(self) -> None:
        kept = dict(self._mirror.kept)
        if kept != self._indexed:
            await self._all.call(lambda: self._place.write_index(self._owner, kept))
            self._indexed = kept

    async def _set_aside(self, new: Mapping[str, NewFile], bases: dict[str, str]) -> dict[str, NewFile]:
        """What was not stored, as somebody else has stored something else: it is kept beside that, by another name."""
        rows, wanted, kept = await self._rows(), dict[str, NewFile](), self._mirror.kept
        for path, file in new.items():
            there = rows.get(path)
            if there is None:
                bases.pop(path, None)
                wanted[path] = file  # it was deleted: who writes is right
            elif there["blob"] in self._unheard:
                bases[path] = there["blob"]  # it was stored from here
                wanted[path] = file
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
                    extra={"event": "home.conflict", "folder": self._mirror.root.name, "path": beside[:200]},
                )
        return wanted

    async def _pull(self) -> None:
        kept, late = self._mirror.kept, set[str]()
        for _ in range(ROUNDS):
            rows = await self._rows()
            for path in [path for path in kept if path not in rows]:
                await self._all.call(lambda path=path: self._remove(path))  # type: ignore[misc]
            left_out = self._unfit | late
            wanted = [
                row
                for path, row in rows.items()
                if path not in left_out and (path not in kept or kept[path].blob != row["blob"])
            ]
            if not wanted:
                self._mark = _new_mark()
                await self._write_index()
                return
            aside = await self._all.call(self._place.temporary)
            try:
                left = await each(wanted, partial(self._bring, aside))
                late |= {path for path in left if path is not None}
            finally:
                self._all.remove(aside)
        raise StoreSilent(_CHANGING)

    async def _rows(self) -> dict[str, Row]:
        found = await self._retrying(lambda: queries.rows(self._all.database, self._owner))
        return {row["path"]: row for row in found}

    async def _bring(self, aside: Path, row: Row) -> str | None:
        """Fetch a file; its path, if it was written here meanwhile."""
        path, fetched = await self.fetch(aside, row)
        if fetched is not None and not await self._all.call(lambda: self._move(aside, path, fetched)):
            return path
        return None

    def _move(self, aside: Path, path: str, fetched: StoredFile) -> bool:
        """Into its place; False if the project's code has written there since it was looked at, or a link leads elsewhere."""
        mirror, target = self._mirror, self._mirror.root / path
        kept = mirror.kept.get(path)
        if self._leads_out(path):
            return False
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
            if not self._leads_out(path) and folder.stamp_of(self._mirror.root, path) == kept.stamp:
                (self._mirror.root / path).unlink()

    def _leads_out(self, path: str) -> bool:
        """Whether a folder on the way to the file is a link."""
        parent = (self._mirror.root / path).parent
        return os.path.realpath(parent) != str(parent)


_CHANGING = "The files of the home folder are being changed all the time: try again."


def _new_mark() -> str:
    return os.urandom(4).hex()


async def _patiently(ask: Callable[[], Awaitable[T]]) -> T:
    return await retrying(ask, until=time.monotonic() + STORE_SECONDS)
