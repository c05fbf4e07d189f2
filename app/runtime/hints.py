"""Hints to other processes that there may be work: one statement for however many runs.

Not in the transactions that they are about. A commit with a NOTIFY holds a lock of the whole cluster until it is on
disk: a hundred hand-overs would commit one after the other.
"""

from __future__ import annotations

import asyncio
import logging

from app.postgres.pool import Database
from app.postgres.trouble import DATABASE_TROUBLE
from app.runtime import queue

log = logging.getLogger(__name__)


class Hints:
    """Sends hints, one at a time. They may be lost: the others poll."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._wanted = False
        self._task: asyncio.Task[None] | None = None

    def give(self) -> None:
        """What has been committed until now may be claimed by others."""
        self._wanted = True
        if self._task is None:
            self._task = asyncio.create_task(self._send(), name="hints")

    async def sent(self, timeout: float) -> None:
        """Wait, `timeout` seconds at most, until every hint is out."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=max(0.0, timeout))

    async def _send(self) -> None:
        try:
            while self._wanted:
                self._wanted = False
                await self._database.execute(queue.NOTIFY, {"hint": queue.HINT_WORK})
        except DATABASE_TROUBLE as problem:
            log.debug("hint lost: %s", problem, extra={"event": "hint.lost"})
        finally:
            self._task = None
