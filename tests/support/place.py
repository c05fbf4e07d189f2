"""Where the database server of a process that runs tests lies: in memory, where hundreds of files for each test cost least."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MEMORY = Path("/dev/shm")  # noqa: S108 - the folders in it are new ones of ours
MEMORY_BYTES = 4 << 30
"""Free in `MEMORY` at least: all processes that run tests have a server there."""
PREFIX = "slackwater-databases-"


@contextmanager
def place_of_databases(memory: Path = MEMORY, needed: int = MEMORY_BYTES) -> Iterator[Path]:
    """A new folder: in memory, or below the temporary folder where there is too little of it.

    It is locked while it is used, so those that killed processes have left in memory are known, and removed.
    """
    place = memory if _free(memory) >= needed else Path(tempfile.gettempdir())
    with _lock(place, fcntl.LOCK_EX):  # until the new one is locked
        if place == memory:
            _remove_abandoned(place)
        # Not `tmp_path_factory`: its folders are closed to the account that the server runs as under root.
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        lock = os.open(folder, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder)
        os.close(lock)


def _free(place: Path) -> int:
    try:
        there = os.statvfs(place)
    except FileNotFoundError:
        return 0
    return there.f_bavail * there.f_frsize


def _remove_abandoned(place: Path) -> None:
    for folder in place.glob(f"{PREFIX}*"):
        # Another's is no business of ours, and one that is locked is used.
        with suppress(OSError), _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
            shutil.rmtree(folder)


@contextmanager
def _lock(folder: Path, kind: int) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)
