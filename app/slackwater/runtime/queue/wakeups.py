"""Tells other processes that there may be work, with few messages however many runs there are.

Not in the transactions that make the work: a commit with a NOTIFY holds a cluster-wide lock until it is on disk, so that a
hundred hand-overs would commit one after another.
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
"""An environment that is woken claims what it finds, and works on several runs."""
MAX_WAKES = 10


class WakeError(Exception):
    """A wake-up was not accepted."""


class Waker(Protocol):
    """Starts processes elsewhere that look for work, since none may be listening."""

    async def prepare(self) -> None:
        """Do in advance what would delay the first wake-up."""

    async def wake(self, count: int) -> None:
        """Wake `count` processes. Raises WakeError."""


class WakeUps:
    """Sends wake-ups, one statement or one round at a time. They may be lost: other processes poll or sweep.

    `notify`: whether processes may be listening to the database. `waker`: wakes processes by other means.
    """

    def __init__(self, database: Database, *, notify: bool = True, waker: Waker | None = None) -> None:
        self.waker = waker
        self._database = database
        self._notify = notify
        self._wanted = 0
        self._task: asyncio.Task[None] | None = None
        self._preparing: asyncio.Task[None] | None = None

    def prepare(self) -> None:
        """Call when a run begins: if this environment is shut down, the run must be handed over within 0.3 s."""
        if self.waker is not None and self._preparing is None:
            self._preparing = asyncio.create_task(self.waker.prepare(), name="wakeups:prepare")

    def send(self, runs: int = 1) -> None:
        """Tell other processes that they may claim about this many runs, which are committed."""
        if not (self._notify or self.waker):
            return
        self._wanted += runs
        if self._task is None:
            self._task = asyncio.create_task(self._send(), name="wakeups")

    async def flush(self, timeout: float) -> None:
        """Wait at most `timeout` seconds until every wake-up has been sent."""
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
            # The next sweep finds the runs. Until then they wait, and only this line says why.
            log.warning("wake-up lost: %s", problem, extra={"event": "wake.lost", "runs": runs})
