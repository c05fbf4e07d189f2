"""One member of an archive, read without believing what the archive says of itself."""

from __future__ import annotations

import struct
import zipfile
import zlib
from typing import IO

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

_END = b"PK\x05\x06"

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
    _require_small_directory(file)
    try:
        with zipfile.ZipFile(file) as archive:
            found = _find(archive, name)
            if found.file_size > MEMBER_BYTES:
                raise MemberTooLarge
            with archive.open(found) as member:
                content = member.read(MEMBER_BYTES + 1)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError, ValueError):
        raise NotFound(f"Artifact not found: {name}") from None
    if len(content) > MEMBER_BYTES:
        raise MemberTooLarge
    return content


def _find(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    members = [member for member in archive.infolist() if not member.is_dir()]
    for member in members:
        if member.filename == name:
            return member
    for member in members:
        if member.filename.endswith(f"/{name}"):
            return member
    raise NotFound(f"Artifact not found: {name}")


def _require_small_directory(file: IO[bytes]) -> None:
    """A directory of a million members takes a thousand times what it has on disk."""
    end = file.seek(0, 2)
    file.seek(max(0, end - 65_536 - 22))
    tail = file.read()
    at = tail.rfind(_END)
    if at >= 0 and len(tail) - at >= 22:
        (size,) = struct.unpack_from("<L", tail, at + 12)
        if size > DIRECTORY_BYTES:  # also that of ZIP64, which has all bits set here
            raise MemberTooLarge
    file.seek(0)
