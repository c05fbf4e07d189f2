"""One member of an archive, read without believing what the archive says of itself."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, cast

from slackwater.blobs.blobs import Blobs
from slackwater.blobs.copy import temporary_copy
from slackwater.errors import ApiError, NotFound
from slackwater.kit.threads import Threads

MEMBER_BYTES = 16 * 1024 * 1024
"""The largest member that is read."""
ARCHIVE_BYTES = 100 * 1024 * 1024
"""The largest archive that is opened."""
DIRECTORY_BYTES = 4 * 1024 * 1024
"""The largest directory of one, which is read as a whole."""

TAIL_BYTES = 128 * 1024
"""More than `zipfile` reads to find the directory."""

METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
"""Those that `zipfile` unpacks piece by piece. Others make of one piece whatever is in it."""

_threads = Threads("archives", 4, 4)


class MemberTooLarge(ApiError):
    """Archive member is too large"""

    status = 413


async def member_of(blobs: Blobs, key: str, size: int, name: str) -> bytes:
    """The content of a member: of that name, or the first one that ends with it. Raises NotFound and MemberTooLarge."""
    if size > ARCHIVE_BYTES:
        raise MemberTooLarge
    # Members are found from the end: it needs all of the archive, on disk and not in memory.
    async with temporary_copy(blobs, key, _threads) as copy:
        return await copy.call(_read, name)


def _read(file: IO[bytes], name: str) -> bytes:
    try:
        with opened(file) as archive:
            found = _find(archive, name)
            if found.file_size > MEMBER_BYTES:
                raise MemberTooLarge
            with archive.open(found) as member:
                content = member.read(MEMBER_BYTES + 1)
    except ApiError:
        raise
    except Exception:  # broken archives make `zipfile` raise anything
        raise NotFound(f"Artifact not found: {name}") from None
    if len(content) > MEMBER_BYTES:
        raise MemberTooLarge
    return content


def _find(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    members = [member for member in archive.infolist() if not member.is_dir()]
    ends = f"/{name}"
    named = (member for member in members if member.filename == name)
    found = next(named, None) or next((member for member in members if member.filename.endswith(ends)), None)
    if found is not None and found.compress_type in METHODS:
        return found
    raise NotFound(f"Artifact not found: {name}")


@contextmanager
def opened(file: IO[bytes]) -> Iterator[zipfile.ZipFile]:
    """A ZIP archive. Raises MemberTooLarge for a directory above its bound, and for broken archives whatever `zipfile` raises."""
    source = _Source(file)
    with zipfile.ZipFile(cast("IO[bytes]", source)) as archive:
        source.left = None
        yield archive


class _Source:
    """The file, of which `zipfile` may read only so much while it reads the directory, wherever the archive says that it is.

    A directory of a million members takes a thousand times what it has on disk.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._end = file.seek(0, os.SEEK_END)
        self.left: int | None = DIRECTORY_BYTES + TAIL_BYTES
        """None: as much as it likes, as the directory has been read."""
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if self.left is not None:
            rest = max(0, self._end - self.tell())
            self.left -= min(size, rest) if size >= 0 else rest
            if self.left < 0:
                raise MemberTooLarge
        return self._file.read(size)

    def seekable(self) -> bool:
        return True
