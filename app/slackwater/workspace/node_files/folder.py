"""A folder on this disk, and what has changed in it. All of it blocks, and belongs into a thread."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

PARTS = ("workspace", "uploads", "outputs")
"""The folders in it, which are always there."""

MAX_PATH_BYTES = 1024
MAX_FILES = 20_000

PIECE_BYTES = 262_144


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells that a file was written, without reading it: the change time moves even if somebody sets the other one back."""

    size: int
    modified: int
    changed: int
    inode: int

    @classmethod
    def of(cls, found: os.stat_result) -> Stamp:
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


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


def look(root: Path, kept: Mapping[str, StoredFile]) -> Found:
    """What differs from what is stored."""
    found, there = Found(), set[str]()
    for path, entry in _files(root, found.skipped):
        there.add(path)
        if len(there) > MAX_FILES:
            found.too_many = True
            return found
        with suppress(FileNotFoundError):  # it is being replaced
            stamp = Stamp.of(entry.stat(follow_symlinks=False))
            known = kept.get(path)
            if known is None or known.stamp != stamp:
                found.changed[path] = stamp
    found.gone = set(kept) - there
    return found


def _files(root: Path, skipped: list[str]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """The regular files below the parts, by their paths; no link is followed."""
    folders = list(PARTS)
    while folders:
        folder = folders.pop()
        if not _is_folder(root / folder):
            continue
        with os.scandir(root / folder) as entries:
            for entry in entries:
                path = f"{folder}/{entry.name}"
                if not _can_be_stored(path):
                    skipped.append(repr(path)[:200])
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(path)
                elif entry.is_file(follow_symlinks=False):
                    yield path, entry
                else:
                    skipped.append(path)


def _is_folder(path: Path) -> bool:
    with suppress(FileNotFoundError):
        return stat.S_ISDIR(os.stat(path, follow_symlinks=False).st_mode)
    return False


def _can_be_stored(path: str) -> bool:
    try:
        return len(path.encode()) <= MAX_PATH_BYTES
    except UnicodeEncodeError:
        return False


class Source:
    """A file of the folder that is being read."""

    def __init__(self, root: Path, path: str) -> None:
        self._root, self._path = root, path
        self._file: int | None = None
        self._hash = hashlib.sha256()
        self.size = 0

    def read(self) -> bytes:
        """The next piece; empty at the end."""
        if self._file is None:
            self._file = os.open(self._root / self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            if not stat.S_ISREG(os.fstat(self._file).st_mode):
                raise FileNotFoundError(self._path)
        piece = os.read(self._file, PIECE_BYTES)
        self._hash.update(piece)
        self.size += len(piece)
        return piece

    def read_all(self) -> None:
        while self.read():
            pass

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


class Target:
    """A file of the folder that is being fetched."""

    def __init__(self, root: Path, path: str) -> None:
        self._place = root / path
        self._file: int | None = None

    def write(self, piece: bytes) -> None:
        if self._file is None:
            self._place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(self._place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(self._file, rest) :]

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
