"""Hints to other processes that there may be work: few of them, for however many runs.

Not in the transactions that they are about. A commit with a NOTIFY holds a lock of the whole cluster until it is on
disk: a hundred hand-overs would commit one after the other.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE
from slackwater.postgres.pool import Database
from slackwater.runtime.queue import order

log = logging.getLogger(__name__)

RUNS_PER_WAKE = 10
"""An environment that is woken works on several runs, and each claims what it finds."""
MAX_WAKES = 10


class WakeError(Exception):
    """A wake-up was not taken."""


class Waker(Protocol):
    """Starts processes elsewhere that look for work: there may be none that listens."""

    async def prepare(self) -> None:
        """Do now what would make the first wake-up late."""

    async def wake(self, count: int) -> None:
        """Wake `count` of them. Raises WakeError."""


class Hints:
    """Sends hints, one statement or one round of wake-ups at a time. They may be lost: the others poll, or sweep.

    `notify`: somebody may listen to the database. `waker`: who else is to be told.
    """

    def __init__(self, database: Database, *, notify: bool = True, waker: Waker | None = None) -> None:
        self.waker = waker
        self._database = database
        self._notify = notify
        self._wanted = 0
        self._task: asyncio.Task[None] | None = None
        self._preparing: asyncio.Task[None] | None = None

    def prepare(self) -> None:
        """A run begins, which may have to be handed over: within 0.3 s, if this environment is taken away."""
        if self.waker is not None and self._preparing is None:
            self._preparing = asyncio.create_task(self.waker.prepare(), name="hints:prepare")

    def give(self, runs: int = 1) -> None:
        """What has been committed until now may be claimed by others: so many runs, about."""
        if not (self._notify or self.waker):
            return
        self._wanted += runs
        if self._task is None:
            self._task = asyncio.create_task(self._send(), name="hints")

    async def sent(self, timeout: float) -> None:
        """Wait, `timeout` seconds at most, until every hint is out."""
        tasks = {task for task in (self._task, self._preparing) if task is not None and not task.done()}
        if tasks:
            await asyncio.wait(tasks, timeout=max(0.0, timeout))

    async def _send(self) -> None:
        try:
            while self._wanted:
                wanted, self._wanted = self._wanted, 0
                await asyncio.gather(self._tell_listeners(), self._wake(wanted))
        finally:
            self._task = None

    async def _tell_listeners(self) -> None:
        if not self._notify:
            return
        try:
            await self._database.execute(order.NOTIFY, {"hint": order.HINT_WORK})
        except DATABASE_UNAVAILABLE as problem:
            log.debug("hint lost: %s", problem, extra={"event": "hint.lost"})

    async def _wake(self, runs: int) -> None:
        if self.waker is None:
            return
        count = min(-(-runs // RUNS_PER_WAKE), MAX_WAKES)
        try:
            await self.waker.wake(count)
        except WakeError as problem:
            # The next sweep finds the runs. Until then they wait, and nobody else would say why.
            log.warning("wake-up lost: %s", problem, extra={"event": "wake.lost", "runs": runs})
