"""A folder on this disk, and what has changed in it. All of it blocks, and belongs into a thread."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import math
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

PARTS = ("workspace", "uploads", "outputs")
"""The folders in it, which are always there."""

MAX_PATH_BYTES = 1024
MAX_FILES = 20_000

PIECE_BYTES = 262_144

TICK_NS = 20_000_000
"""More than one tick of the clock by which a file system says when files were written."""

_UNFIT = frozenset(
    {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EINVAL, errno.EILSEQ, errno.ELOOP}
)


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells that a file was written, without reading it: the change time moves even if somebody sets the other one back."""

    size: int
    modified: int
    changed: int
    inode: int
    settled: bool = field(default=True, compare=False)
    """Whoever writes the file from now on changes the stamp. Not so for a moment after it was written: clocks of file systems tick."""

    @classmethod
    def of(cls, found: os.stat_result) -> Stamp:
        settled = found.st_mtime_ns < time.time_ns() - TICK_NS
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, settled)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as it is stored."""

    blob: str
    size: int
    sha256: str | None
    stamp: Stamp
    """Of the local one that has the same content."""


@dataclass(slots=True)
class Found:
    """What a look through the folder has found."""

    changed: dict[str, Stamp] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    skipped: list[str] = field(default_factory=list)
    """What is no file that can be stored: links, sockets, names that are no text."""
    too_many: bool = False
    root_is_gone: bool = False
    """There is no folder: whoever clears a disk has deleted no files."""


class Base:
    """The folder of a process, in which those of its runs are. What a process that was killed has left is deleted by the next one.

    As long as it lives, it holds a lock on its folder, which nothing but its end releases.
    """

    def __init__(self) -> None:
        self._path: Path | None = None
        self._held: int | None = None

    def new(self) -> Path:
        """A new folder. One thread at a time."""
        if self._path is None:
            self._path, self._held = self._begin()
        return Path(tempfile.mkdtemp(dir=self._path))

    def _begin(self) -> tuple[Path, int]:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(held, fcntl.LOCK_EX)
        for other in path.parent.glob(f"{_PREFIX}*"):
            if other != path:
                _remove_if_left(other)
        return path, held

    def end(self) -> None:
        """The process is about to end."""
        if self._path is not None and self._held is not None:
            remove(self._path)
            os.close(self._held)
            self._path = self._held = None


_PREFIX = "slackwater-files-"

_YOUNG_SECONDS = 60.0
"""So long after it was made nobody looks whether a folder is locked already."""


def _remove_if_left(path: Path) -> None:
    try:
        found = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # another user's, or gone
        return
    try:
        fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if time.time() - os.fstat(found).st_mtime > _YOUNG_SECONDS:
            remove(path)
    except OSError:  # its process lives
        return
    finally:
        os.close(found)


def make(root: Path) -> None:
    """The folder with its parts."""
    for part in PARTS:
        (root / part).mkdir(mode=0o700, parents=True, exist_ok=True)


def remove(root: Path) -> None:
    """The folder goes, with all that is in it. What cannot be deleted stays."""
    shutil.rmtree(root, ignore_errors=True)


def stamp_of(root: Path, path: str) -> Stamp:
    return Stamp.of(os.stat(root / path, follow_symlinks=False))


def look(
    root: Path,
    kept: Mapping[str, StoredFile],
    until: float = math.inf,
    parts: Collection[str] = PARTS,
    without: Collection[str] = (),
) -> Found:
    """What differs from what is stored, and was not written after `until`, in seconds since the epoch.

    Only these `parts` are looked through ("": all of it), and no path of `without`.
    """
    found, there = Found(), set[str]()
    for path, entry in _files(root, parts, without, found.skipped):
        there.add(path)
        if len(there) > MAX_FILES:
            found.too_many = True
            return found
        try:
            stamp = Stamp.of(entry.stat(follow_symlinks=False))
        except FileNotFoundError:  # it is being replaced
            continue
        except PermissionError:
            found.skipped.append(path)
            continue
        known = kept.get(path)
        differs = known is None or known.stamp != stamp or not known.stamp.settled
        if differs and stamp.changed <= until * 1e9:
            found.changed[path] = stamp
    found.gone = {path for path in set(kept) - there if _is_gone(root / path)}
    found.root_is_gone = not is_folder(root)
    return found


def _is_gone(path: Path) -> bool:
    """Not so of what was being replaced, or of what is in a folder that cannot be read."""
    try:
        return not stat.S_ISREG(os.stat(path, follow_symlinks=False).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False


def _files(
    root: Path, parts: Collection[str], without: Collection[str], skipped: list[str]
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """The regular files below the parts, by their paths; no link is followed."""
    folders = list(parts)
    while folders:
        folder = folders.pop()
        if not is_folder(root / folder):
            continue
        with _entries(root / folder, folder, skipped) as entries:
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if path in without:
                    continue
                if not _can_be_stored(path):
                    skipped.append(repr(path)[:200])
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(path)
                elif entry.is_file(follow_symlinks=False):
                    yield path, entry
                else:
                    skipped.append(path)


def _entries(path: Path, name: str, skipped: list[str]) -> AbstractContextManager[Iterable[os.DirEntry[str]]]:
    """What is in the folder: nothing if it is one no longer, or cannot be read."""
    try:
        return os.scandir(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except PermissionError:
        skipped.append(name)
    return nullcontext(())


def is_folder(path: Path) -> bool:
    """Whether it is one, and no link to one."""
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        return stat.S_ISDIR(os.stat(path, follow_symlinks=False).st_mode)
    return False


def _can_be_stored(path: str) -> bool:
    try:
        return len(path.encode()) <= MAX_PATH_BYTES
    except UnicodeEncodeError:
        return False


class LocalFile:
    """A file of the folder that is read or written, piece by piece, in one thread after the other.

    Closed, also by who does not want to wait: then the thread that still has it closes it.
    """

    def __init__(self, root: Path, path: str, *, writes: bool = False) -> None:
        self._place, self._path, self._writes = root / path, path, writes
        self._file: int | None = None
        self._closed = False
        self._lock = Lock()
        """Of the three above."""
        self._hash = hashlib.sha256()
        self.size = 0

    def read(self) -> bytes:
        """The next piece; empty at the end. Raises FileNotFoundError, also for what is no regular file."""
        with self._opened() as file:
            piece = os.read(file, PIECE_BYTES)
            self._hash.update(piece)
            self.size += len(piece)
        return piece

    def read_all(self) -> None:
        while self.read():
            pass

    def write(self, piece: bytes) -> None:
        with self._opened() as file:
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(file, rest) :]

    def date(self, modified: float) -> None:
        """Say that it was written then, and not a moment ago. Seconds since the epoch."""
        with self._opened() as file:
            seen = min(modified, time.time() - 1)
            os.utime(file, (seen, seen))

    @property
    def sha256(self) -> str:
        """Of what was read."""
        return self._hash.hexdigest()

    def close(self) -> None:
        """Never waits."""
        self._closed = True
        if self._lock.acquire(blocking=False):
            try:
                if self._file is not None:
                    os.close(self._file)
                    self._file = None
            finally:
                self._lock.release()

    @contextmanager
    def _opened(self) -> Iterator[int]:
        try:
            with self._lock:
                if self._closed:
                    raise FileNotFoundError(errno.ENOENT, "nobody wants it any more", self._path)
                if self._file is None:
                    self._file = self._open()
                yield self._file
        finally:
            if self._closed:
                self.close()

    def _open(self) -> int:
        if self._writes:
            self._place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(self._place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        file = os.open(self._place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise FileNotFoundError(errno.ENOENT, "no regular file", self._path)
        return file


def is_unfit(error: OSError) -> bool:
    """Whether the file cannot be in this folder: its name is too long for this disk, or another one is in its way."""
    return error.errno in _UNFIT
