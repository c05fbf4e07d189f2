"""What callers send, bounded by bytes before anything is made of it: each body, what it unfolds to, and all of them together.

And what they are sent, as long as they have not read it.
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
"""How long a body waits for room among the others."""

MAX_VALUES = 250_000
"""Objects, arrays and their members in one body. Each takes up to a hundred times the two bytes that it is sent as, and all
of them are parsed in one go, during which nobody else is answered."""

VALUE_BYTES = 64
"""What a value takes at least, once it is parsed."""

BODIES = 16
"""How many of the largest bodies there is room for."""

LARGE_BYTES = 5_000_000
"""Answers with more have a room of their own. What changes something never has: it would be refused after it was done."""

ANSWERS_BYTES = 120_000_000
"""How much of them there may be."""

ANSWER_SECONDS = 120.0
"""How long one of them may take to be read."""

PIECE_BYTES = 262_144
"""How much of an answer a server gets at a time, which keeps what its client does not read."""

_MARKS = b"{[,"
_SLICE = 65_536
_STRING = re.compile(rb'"[^"]*+(?:"|\Z)')


def room_for_bodies(largest: int) -> Room:
    """For what is being read and carried out; `largest`: bytes of the largest body."""
    return Room(BODIES * (largest + MAX_VALUES * VALUE_BYTES // 4))


class Room:
    """Bytes that this process has for something, over all requests. Nobody gets more than half of it."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._taken: Counter[str] = Counter()
        self._changed = asyncio.Event()

    @property
    def share(self) -> int:
        """How much one owner gets at most."""
        return self._total // 2

    async def take(self, owner: str, size: int) -> None:
        """Wait until there is room for `size` more bytes of the owner's. Raises Crowded."""
        if not self._fits(owner, size):
            with suppress(TimeoutError):
                async with asyncio.timeout(WAIT_SECONDS):
                    while not self._fits(owner, size):
                        await self._changed.wait()
            if not self._fits(owner, size):
                raise Crowded
        self._taken[owner] += size

    def give_back(self, owner: str, size: int) -> None:
        self._taken[owner] -= size
        if not self._taken[owner]:
            del self._taken[owner]
        # A fresh one, so that whoever still finds no room waits for the next.
        self._changed.set()
        self._changed = asyncio.Event()

    def _fits(self, owner: str, size: int) -> bool:
        return self._taken[owner] + size <= self.share and self._taken.total() + size <= self._total


def values_in(text: bytes) -> int:
    """About how many values a JSON text holds, and not fewer. Raises Invalid where they are too many."""
    found = _marks(text)
    if found <= MAX_VALUES:
        return found
    # Perhaps they are in strings. Slice by slice, as a copy of all the pieces would take what is to be saved.
    found, at, inside = 0, 0, False
    while at < len(text):
        end = at + _SLICE
        while text[end - 1 : end] == b"\\":
            end += 1  # what it escapes belongs to it
        piece = text[at:end].replace(b"\\\\", b"").replace(b'\\"', b"")
        quotes = piece.count(b'"')
        found += _marks(_STRING.sub(b"", b'"' + piece if inside else piece))
        if found > MAX_VALUES:
            raise Invalid(f"JSON has more than {MAX_VALUES} values: send less at a time")
        inside ^= quotes % 2 == 1
        at = end
    return found


def _marks(text: bytes) -> int:
    """How many values begin: with a bracket of their own, or after a comma."""
    return len(text) - len(text.translate(None, _MARKS))
