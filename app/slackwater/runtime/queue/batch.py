"""How many rows a statement takes on: fewer after it was too slow, more after it was not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg.errors import QueryCanceled

from slackwater.postgres.pool import StatementTimeout


@dataclass(slots=True)
class Batch:
    """Rows at a time, from 1 to `most`."""

    size: int
    most: int

    @contextmanager
    def sized(self) -> Iterator[int]:
        """The limit for one statement. Halved if that has no answer in time, doubled if it has."""
        try:
            yield self.size
        except (StatementTimeout, QueryCanceled, TimeoutError, asyncio.CancelledError):
            self.size = max(1, self.size // 2)
            raise
        self.size = min(self.most, self.size * 2)
