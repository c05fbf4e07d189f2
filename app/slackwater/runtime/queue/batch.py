"""Batch sizes that adapt: smaller after a statement was too slow, larger after it was fast enough."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg.errors import QueryCanceled

from slackwater.postgres.pool import StatementTimeout


@dataclass(slots=True)
class Batch:
    """The number of rows for the next statement, from 1 to `most`."""

    size: int
    most: int

    @contextmanager
    def sized(self) -> Iterator[int]:
        """The limit for one statement. Halved if the statement times out, doubled if it does not."""
        try:
            yield self.size
        except (StatementTimeout, QueryCanceled, TimeoutError, asyncio.CancelledError):
            self.size = max(1, self.size // 2)
            raise
        self.size = min(self.most, self.size * 2)
