"""Erasing an owner: in many short transactions, so that nobody waits for it, and whoever is stopped in the middle goes on
from there when it is called again.

First what more would come by goes: keys and crons. Then what runs is asked to end, and has some time for it; a process that
does not answer loses its fence with its run's row, and writes nothing more. Then the rest goes. Passes repeat until one finds
nothing: what somebody had locked, or wrote with a request that had begun before, goes with the next one.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from functools import partial
from uuid import UUID

from slackwater.errors import SettingsError, SlackwaterError
from slackwater.identity.audit import queries as audit
from slackwater.identity.audit.actor import AuditAction
from slackwater.identity.principal import SYSTEM_OWNER
from slackwater.kit.labels import label_of
from slackwater.owners import queries
from slackwater.postgres.pool import Database, StatementTimeout
from slackwater.runtime.queue import cancel
from slackwater.runtime.queue.batch import Batch
from slackwater.runtime.queue.cancel import DELETED, CancelAction

END_SECONDS = 10.0
"""How long runs may take to end. Those of a process that does not answer are deleted all the same."""

KEYS_SECONDS = 10.0
"""For so long a process may still let a key or a session in that was deleted."""

AGAIN_SECONDS = 60.0
"""How long passes are repeated, after the first one, while something is still found."""

PAUSE_SECONDS = 0.2
THREADS = 50
LIVE = 500


class NotErased(SlackwaterError):
    """Something of the owner is still there: take their keys out of the settings, and call it again."""


async def erase(database: Database, owner: str) -> Counter[str]:
    """Erase all that is the owner's; how many rows of each table, and threads. Two at the same time share the work.

    Raises SettingsError for the owner of what belongs to everybody, and NotErased.
    """
    if owner == SYSTEM_OWNER:
        raise SettingsError(f"{SYSTEM_OWNER!r} owns what belongs to everybody, and cannot be erased.")
    # Of no owner: or it would go with the rest. Before: who is stopped in the middle has erased something.
    await audit.add_command(database, AuditAction.OWNER_ERASED, owner)
    erasure = _Erasure(database, owner)
    await erasure.carry_out()
    return erasure.gone


class _Erasure:
    def __init__(self, database: Database, owner: str) -> None:
        self._database = database
        self._owner = owner
        self._label = label_of(owner)
        self.gone: Counter[str] = Counter()
        self._rows = Batch(1000, 10_000)

    async def carry_out(self) -> None:
        let_in_until = 0.0
        until: float | None = None
        while True:
            for table in queries.WAYS_IN:
                if await self._delete(table) and table in queries.LOGINS:
                    let_in_until = time.monotonic() + KEYS_SECONDS
            await self._end_runs()
            await self._erase_threads()
            for table in (*queries.AFTER_THREADS, queries.STORE):
                await self._delete(table)
            now = time.monotonic()
            until = until or max(now, let_in_until) + AGAIN_SECONDS
            left = await queries.left(self._database, self._owner, self._label)
            if not left and now >= let_in_until:
                return
            if now >= until:
                raise NotErased(
                    f"Something of {self._owner!r} is still there ({', '.join(left)}): somebody goes on writing in this "
                    "name, or has locked it. Take their keys out of the settings, and call it again."
                )
            await asyncio.sleep(PAUSE_SECONDS if left else let_in_until - now)

    async def _delete(self, table: str) -> int:
        gone = await self._repeat(
            self._rows, partial(queries.delete, self._database, table, self._owner, self._label)
        )
        self.gone[table.rpartition(".")[2]] += gone
        return gone

    async def _end_runs(self) -> None:
        """Ask what runs to end, and wait for it, but not for ever."""
        until = time.monotonic() + END_SECONDS
        while live := await queries.live(self._database, self._owner, LIVE):
            runs = defaultdict[UUID, list[UUID]](list)
            for row in live:
                runs[row["thread_id"]].append(row["run_id"])
            # Again each time: one that was locked, or has begun since, was not asked.
            await cancel.cancel_many(
                self._database,
                owner=self._owner,
                run_ids=runs,
                action=CancelAction.ROLLBACK,
                reason=DELETED,
            )
            if time.monotonic() >= until:
                return
            await asyncio.sleep(PAUSE_SECONDS)

    async def _erase_threads(self) -> None:
        after = UUID(int=0)
        while threads := await queries.some_threads(self._database, self._owner, after, THREADS):
            # What may be many goes before, in pieces: what is left of the threads is one short transaction.
            for table in range(queries.wipes()):
                await self._repeat(self._rows, partial(queries.wipe, self._database, table, threads))
            await self._repeat(
                self._rows, partial(queries.erase_ended_runs, self._database, self._owner, threads)
            )
            self.gone["threads"] += await queries.erase_threads(self._database, self._owner, threads)
            after = threads[-1]

    async def _repeat(self, batch: Batch, act: Callable[[int], Awaitable[int]]) -> int:
        """Repeat `act` until it finds less than it may take; how much it was in all."""
        total = 0
        while True:
            try:
                with batch.sized() as limit:
                    gone = await act(limit)
            except StatementTimeout:
                if limit == 1:
                    raise
                continue
            total += gone
            if gone < limit:
                return total
