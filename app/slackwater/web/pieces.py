"""The JSON of a long answer, made in pieces: what is read for the next one is bounded, and so is what they come to."""

from __future__ import annotations

import orjson

from slackwater.errors import PageTooLarge
from slackwater.kit import json_format
from slackwater.postgres.pool import PAGE_BYTES

FIRST = 8
MOST = 200
READ_BYTES = 2_000_000
"""How much is read at a time, as far as the last ones let us guess."""


class Pieces:
    """Takes what was read, and says how many to read next."""

    def __init__(self, limit: int) -> None:
        self.found: list[orjson.Fragment] = []
        self._limit = limit
        self._size = 0
        self._next = FIRST

    @property
    def wanted(self) -> int:
        """How many to read now; 0: that is all."""
        return min(self._next, self._limit - len(self.found))

    def add(self, value: object, read: object = None) -> None:
        """One of them; `read`: what it was made from, where that is more. Raises PageTooLarge."""
        piece = json_format.dumps(value)
        self._size += len(piece)
        if self.found and self._size > PAGE_BYTES:
            raise PageTooLarge
        self.found.append(orjson.Fragment(piece))
        if not self.wanted:
            return
        size = len(piece) if read is None else len(json_format.dumps(read))
        self._next = max(1, min(READ_BYTES // max(size, 1), MOST))
