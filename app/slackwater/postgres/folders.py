"""Folders that other users may write to. Root leaves nothing in them to be led elsewhere by a link.

A path that is looked at first and used afterwards may be another one by then: what is done in a folder is done through its
descriptor, and what is done to it, too.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class LinkRefused(OSError):
    """It is a link, or belongs to another user."""


def follow() -> int:
    """The flag for `os.open`: who is not root may have links of their own."""
    return 0 if os.geteuid() else os.O_NOFOLLOW


@contextmanager
def inside(folder: Path, *, owners: tuple[int, ...] = (), flags: int | None = None) -> Iterator[int]:
    """The descriptor of a folder. Raises LinkRefused if root finds a link there, or another owner than one of `owners`."""
    nofollow = follow() if flags is None else flags
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | nofollow)
    except OSError as error:
        if folder.is_symlink():
            raise LinkRefused(f"{folder} is a symbolic link, which is not followed") from error
        raise
    try:
        if owners and os.fstat(descriptor).st_uid not in owners:
            raise LinkRefused(f"{folder} belongs to another user")
        yield descriptor
    finally:
        os.close(descriptor)


def read(file: Path, limit: int = 1_000_000) -> str:
    """The end of a regular file, or nothing. Whoever put a link there does not get to see what it leads to."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | follow())
    except OSError:
        return ""
    with os.fdopen(descriptor, "rb") as opened:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return ""
        opened.seek(max(0, found.st_size - limit))
        return opened.read(limit).decode(errors="replace")


def note(folder: int, name: str, text: str) -> None:
    """Write a file unless something is there already."""
    with suppress(FileExistsError):
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=folder)
        with os.fdopen(descriptor, "w") as opened:
            opened.write(text)


def remove(folder: int, *names: str) -> None:
    """Remove files, folders and links, not what a link leads to."""
    for name in names:
        with suppress(FileNotFoundError):
            if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                shutil.rmtree(name, ignore_errors=True, dir_fd=folder)
            else:
                os.unlink(name, dir_fd=folder)


def only_ours(folder: Path) -> bool:
    """Whether nobody else can put anything there: all folders above are root's, closed for others or, as /tmp, sticky."""
    for each in (folder, *folder.parents):
        found = os.lstat(each)
        shared = found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX
        if not stat.S_ISDIR(found.st_mode) or found.st_uid or shared:
            return False
    return True
