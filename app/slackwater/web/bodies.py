"""Limits on request bodies, applied before they are parsed: the size of each, of what it parses to, and of all together.

And on large responses that clients have not read yet.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from contextlib import suppress

from slackwater.errors import Crowded, Invalid

BODY_SECONDS = 60.0
"""How long a body may take to arrive."""

WAIT_SECONDS = 5.0
"""How long a body waits for its share of the quota."""

MAX_VALUES = 250_000
"""Objects, arrays and their members in one body. Each takes up to a hundred times the two bytes it is sent as, and parsing blocks
the event loop."""

VALUE_BYTES = 64
"""The minimum memory of a parsed value."""

BODIES = 16
"""How many of the largest bodies the quota holds."""

LARGE_BYTES = 5_000_000
"""Larger responses share a quota. Responses to writes never do: they would be refused after the write."""

RESPONSES_BYTES = 120_000_000
"""The quota of large responses."""

RESPONSE_SECONDS = 120.0
"""How long a client may take to read one of them."""

PIECE_BYTES = 262_144
"""How much of a response the server gets at a time: it buffers what its client does not read."""

_MARKS = b"{[,"
_SLICE = 65_536
_STRING = re.compile(rb'"[^"]*+(?:"|\Z)')


def body_quota(largest: int) -> ByteQuota:
    """The quota for bodies that are being read and handled; `largest`: bytes of the largest body."""
    return ByteQuota(BODIES * (largest + MAX_VALUES * VALUE_BYTES // 4))


class ByteQuota:
    """A quota of bytes in this process, shared by all requests. One owner gets at most half of it."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._taken: Counter[str] = Counter()
        self._changed = asyncio.Event()

    @property
    def share(self) -> int:
        """The most that one owner gets."""
        return self._total // 2

    async def acquire(self, owner: str, size: int) -> None:
        """Wait until `size` more bytes of the owner fit. Raises Crowded."""
        if not self._fits(owner, size):
            with suppress(TimeoutError):
                async with asyncio.timeout(WAIT_SECONDS):
                    while not self._fits(owner, size):
                        await self._changed.wait()
            if not self._fits(owner, size):
                raise Crowded
        self._taken[owner] += size

    def release(self, owner: str, size: int) -> None:
        self._taken[owner] -= size
        if not self._taken[owner]:
            del self._taken[owner]
        # A new event, so that those for whom there is still no room wait for the next release.
        self._changed.set()
        self._changed = asyncio.Event()

    def _fits(self, owner: str, size: int) -> bool:
        return self._taken[owner] + size <= self.share and self._taken.total() + size <= self._total


def values_in(text: bytes) -> int:
    """An upper estimate of the number of values in a JSON text. Raises Invalid if there are too many."""
    found = _marks(text)
    if found <= MAX_VALUES:
        return found
    # Perhaps they are inside strings. Slice by slice, as copying everything would take the memory to be saved.
    found, at, inside = 0, 0, False
    while at < len(text):
        end = at + _SLICE
        while text[end - 1 : end] == b"\\":
            end += 1  # keeps an escape in one slice
        piece = text[at:end].replace(b"\\\\", b"").replace(b'\\"', b"")
        quotes = piece.count(b'"')
        found += _marks(_STRING.sub(b"", b'"' + piece if inside else piece))
        if found > MAX_VALUES:
            raise Invalid(f"JSON has more than {MAX_VALUES} values: send less at a time")
        inside ^= quotes % 2 == 1
        at = end
    return found


def _marks(text: bytes) -> int:
    """How many values begin, each with a bracket or after a comma."""
    return len(text) - len(text.translate(None, _MARKS))
