"""What a store of blobs does."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from slackwater.errors import ApiError, SlackwaterError

log = logging.getLogger(__name__)

PIECE_BYTES = 262_144
"""How much is read at a time."""

STAGED_SECONDS = 3600.0
"""How long a blob may be written. Then it is swept: uploads and the URLs for them end long before."""


class BlobGone(SlackwaterError):
    """The file was deleted or replaced while it was being read: read it again."""


class StoreSilent(ApiError):
    """The store of files does not answer: try again."""

    status = 503
    headers = {"Retry-After": "1"}  # noqa: RUF012


def silent(error: Exception) -> StoreSilent:
    """What callers get for an error of the store. The log has the error: theirs is not to know where files are."""
    log.warning(
        "the store of files: %s", error, extra={"event": "store.silent", "error": type(error).__name__}
    )
    return StoreSilent()


@dataclass(frozen=True, slots=True)
class PresignedUpload:
    """How somebody else writes a blob: one request, with the bytes as its body."""

    method: str
    url: str
    headers: dict[str, str]
    """They have to be sent as they are."""


class Blobs(Protocol):
    """A store. Its methods wait in threads, never on the event loop, and raise StoreSilent if it does not answer."""

    presigns: bool
    """Whether it gives out URLs by which others read and write blobs."""

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        """Write a blob; how many bytes it has. Memory is bounded, whatever its size.

        When this returns, it is there and stays. When this raises, the sweep sees to what was left: whatever `chunks` raises comes out here.
        """
        ...

    def read(self, key: str, start: int = 0, length: int | None = None) -> AsyncGenerator[bytes]:
        """The bytes of a blob from `start` on, in pieces. Raises BlobGone, with the first piece or any later one."""
        ...

    async def size(self, key: str) -> int | None:
        """How many bytes a blob has; None if there is none."""
        ...

    async def delete(self, keys: Collection[str], *, abandoned: bool = False) -> None:
        """Delete blobs; those that are not there are deleted already. `abandoned`: also what was left of writing them."""
        ...

    async def upload_url(self, key: str, size: int, seconds: float) -> PresignedUpload:
        """How somebody else writes this blob, once, with exactly so many bytes."""
        ...

    async def download_url(self, key: str, seconds: float, *, content_type: str, disposition: str) -> str:
        """Where somebody else reads this blob, as that type and with that `Content-Disposition`."""
        ...

    def close(self) -> None:
        """End its threads."""
        ...


def new_key(owner: str, thread_id: UUID) -> str:
    """A key for a blob of this thread. It says nothing of either to who does not know them."""
    return f"{fingerprint(owner, thread_id)}/{os.urandom(16).hex()}"


def is_key_of(key: str, owner: str, thread_id: UUID) -> bool:
    """Whether the key was made for this thread."""
    return key.partition("/")[0] == fingerprint(owner, thread_id)


def fingerprint(owner: str, thread_id: UUID) -> str:
    """What keys of blobs of this thread begin with."""
    return hashlib.sha256(f"{thread_id}/{owner}".encode()).hexdigest()[:32]
