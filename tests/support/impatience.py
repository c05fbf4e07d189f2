"""Statements that may not take their time: those that are looked at, and not what comes before and after them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from slackwater.postgres.pool import BoundedConnection, Database


@contextmanager
def impatient(database: Database, seconds: float) -> Iterator[None]:
    """Bound each statement, and each wait for a connection, by so many seconds meanwhile.

    As a setting it would hold for the first connections, too, which take longer than that on a busy machine.
    """
    with pytest.MonkeyPatch.context() as patch:
        # Of connections that are there already, whoever has them.
        bound = property(lambda _: seconds, lambda *_: None)
        patch.setattr(BoundedConnection, "statement_seconds", bound)
        patch.setattr(database, "statement_seconds", seconds)
        for pool in {database.pool, database.lanes}:
            patch.setattr(pool, "timeout", seconds)
        yield
