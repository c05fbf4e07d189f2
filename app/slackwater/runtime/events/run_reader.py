"""Readers of a run's events, whichever process works on the run.

In the owner's process they read from memory; elsewhere one task per process polls the table for all readers at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from slackwater.kit import json_format
from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE
from slackwater.postgres.pool import Row
from slackwater.runtime.events.journal import BATCH_BYTES, BEGINNING, Ending, Event, EventId, event_of
from slackwater.runtime.events.packs import first_id
from slackwater.runtime.events.partials import Partials
from slackwater.runtime.queue.states import ACTIVE, TERMINAL

if TYPE_CHECKING:
    from slackwater.runtime.execution.attempt import Attempt
    from slackwater.runtime.runtime import Runtime

log = logging.getLogger(__name__)

FOLLOW_SECONDS = 0.1
"""How often the table is polled for readers of runs in other processes: one round trip for all."""

PAGE = 500
ROUND_BYTES = 4_000_000
"""How much one poll reads for all readers together; readers who are left out come first in the next one."""


class StreamCut(Exception):
    """This process is leaving while the run continues: the reader's connection must be aborted, not ended."""


class RunGone(Exception):
    """The run was deleted while a reader followed it."""


reads_within: ContextVar[bool] = ContextVar("reads_within", default=False)
"""The reader is code of this process: it could not go on reading with another one, and reads for as long as there is time."""


@dataclass(slots=True, eq=False)
class _Remote:
    """A reader of a run that another process works on."""

    run_id: UUID
    cursor: EventId
    events: list[Event] = field(default_factory=list)
    more: bool = False
    """There are events after these."""
    status: str | None = None
    last_event: str | None = None
    within: bool = field(default_factory=reads_within.get)
    answered: asyncio.Event = field(default_factory=asyncio.Event)


_STATUS = """select run_id, status, last_event, reader_left_at from slackwater.runs
where run_id = any(%(run_ids)s::uuid[])"""

# Compares the time at which the reader left: they may have been cut off by us since it was read.
_STILL_HERE = f"""
update slackwater.runs set reader_left_at = null
where run_id = %(run_id)s and reader_left_at = %(left_at)s and status in {ACTIVE}"""

# At least one event, however large. `octet_length` of a TOASTed value does not read it.
_EVENTS = f"""
select n, fence, seq, event, data, found from (
  select c.n, e.*, sum(e.size) over (order by c.n, e.fence, e.seq) - e.size as ahead
  from unnest(%(run_ids)s::uuid[], %(fences)s::bigint[], %(seqs)s::int[]) with ordinality as c(run_id, fence, seq, n)
  join slackwater.runs r on r.run_id = c.run_id and r.trimmed is null,
    lateral (select * from (
      select f.*, count(*) over () as found, sum(f.size) over (order by f.fence, f.seq) - f.size as before from (
        select e.fence, e.seq, e.event, e.data, octet_length(e.data) as size from slackwater.run_events e
        where e.run_id = c.run_id and (e.fence, e.seq) > (c.fence, c.seq) order by e.fence, e.seq limit {PAGE}
      ) f) b where before < {BATCH_BYTES}) e
) a where ahead < {ROUND_BYTES} order by n, fence, seq"""
# A trimmed run counts as having no events, even while some still wait to be deleted.


class Follower:
    """Reads the events of runs for clients."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.following: Counter[UUID] = Counter()
        """The number of readers of each run in this process."""
        self._readers: dict[_Remote, None] = {}
        """The readers that wait for the next poll, in order of arrival."""
        self._task: asyncio.Task[None] | None = None
        self._cut = asyncio.Event()

    def cut_remote(self) -> None:
        """Let go of clients whose runs are in other processes: this process is about to leave."""
        self._cut.set()
        for reader in self._readers:
            if not reader.within:
                reader.answered.set()

    async def stop(self, timeout: float) -> None:
        """End the polling task."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=timeout)

    async def follow(self, run_id: UUID, cursor: EventId = BEGINNING) -> AsyncGenerator[list[Event]]:
        """The run's events after `cursor` in batches, until the run has ended.

        Raises StreamCut if this process is leaving, and RunGone if the run is deleted. An event named `gap`, with
        `{"first_available_id"}`, stands for events that retention has trimmed.
        """
        self.following[run_id] += 1
        try:
            async with aclosing(self._follow(run_id, cursor)) as batches:
                async for events in batches:
                    yield events
        finally:
            self.following[run_id] -= 1
            if not self.following[run_id]:
                del self.following[run_id]

    async def _follow(self, run_id: UUID, cursor: EventId) -> AsyncGenerator[list[Event]]:
        attempt: Attempt | None = None
        within = reads_within.get()
        partials = Partials(self._runtime.database, lambda: self._cut.is_set() and not within)
        while True:
            # Keep the attempt until its journal is read: by the time a reader sees its end it is no longer live, and
            # reading its last events from the table would cost a round trip and up to a poll interval.
            if attempt is None or attempt.journal.ending is Ending.GONE_ON:
                attempt = self._here(run_id)
            if attempt is None:
                async with aclosing(self._remote(run_id, cursor, partials)) as batches:
                    async for events, over in batches:
                        if events:
                            cursor = events[-1].id
                            yield events
                        if over:
                            return
                        if self._here(run_id):
                            break
                continue
            journal = attempt.journal
            fresh = journal.after(cursor)
            if fresh is None or (
                cursor.fence < journal.fence and attempt.run.attempt + attempt.run.handovers > 1
            ):
                # Memory does not reach back that far: read the rest from the table.
                before, upto = cursor, EventId(journal.fence, 0) if fresh is not None else journal.last
                async with aclosing(self._page(run_id, cursor, upto, partials)) as pages:
                    async for events in pages:
                        cursor = events[-1].id
                        yield events
                if fresh is not None:
                    cursor = max(cursor, upto)
                elif cursor == before:
                    # The events were deleted meanwhile, with the run or by a rollback.
                    found = gap(cursor, journal.oldest)
                    cursor = EventId(journal.fence, journal.oldest.seq - 1)
                    yield found
                continue
            if fresh:
                cursor = fresh[-1].id
                yield fresh
                continue
            if journal.ending is Ending.SETTLED:
                return
            if journal.ending is Ending.GONE_ON:
                if self._runtime.draining and not within:
                    raise StreamCut
                continue
            await journal.change()

    def _here(self, run_id: UUID) -> Attempt | None:
        """This process's attempt at the run, unless the run continues elsewhere."""
        attempt = self._runtime.worker.live.get(run_id)
        return attempt if attempt is not None and attempt.journal.ending is not Ending.GONE_ON else None

    async def newest(self, run_id: UUID) -> EventId:
        """The id of the newest event, for readers who want only what comes next."""
        attempt = self._here(run_id)
        if attempt is not None:
            return attempt.journal.last
        row = await self._runtime.database.fetch_one(
            "select fence, seq from slackwater.run_events where run_id = %s order by fence desc, seq desc limit 1",
            (run_id,),
        )
        return EventId(row["fence"], row["seq"]) if row else BEGINNING

    async def _page(
        self, run_id: UUID, cursor: EventId, upto: EventId, partials: Partials
    ) -> AsyncGenerator[list[Event]]:
        while True:
            rows = await self._runtime.database.fetch(
                _EVENTS, {"run_ids": [run_id], "fences": [cursor.fence], "seqs": [cursor.seq]}
            )
            events = [event_of(row) for row in rows]
            within = [event for event in events if event.id <= upto]
            if within:
                page = [*gap(cursor, first_id(within[0], cursor)), *within]
                after, cursor = cursor, within[-1].id
                async with aclosing(partials.restored(page, run_id, BATCH_BYTES, after)) as batches:
                    async for batch in batches:
                        yield batch
            if len(within) < len(events) or not _is_more(rows):
                return

    async def _remote(
        self, run_id: UUID, cursor: EventId, partials: Partials
    ) -> AsyncGenerator[tuple[list[Event], bool]]:
        reader = _Remote(run_id, cursor)
        while True:
            if self._cut.is_set() and not reader.within:
                raise StreamCut
            reader.answered.clear()
            self._readers[reader] = None
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._poll(), name="follower")
            try:
                await reader.answered.wait()
            finally:
                self._readers.pop(reader, None)
            if self._cut.is_set() and not reader.within:
                raise StreamCut
            if reader.status is None:
                raise RunGone
            events, reader.events = reader.events, []
            over = reader.status in TERMINAL and not reader.more
            if events:
                page = [*gap(reader.cursor, first_id(events[0], reader.cursor)), *events]
                after, reader.cursor = reader.cursor, events[-1].id
                async with aclosing(partials.restored(page, run_id, BATCH_BYTES, after)) as batches:
                    async for batch in batches:
                        yield batch, False
                yield [], over
            elif (
                over
                and reader.last_event
                and (last := EventId.parse(reader.last_event))
                and last > reader.cursor
            ):
                # Everything after the cursor has been trimmed.
                yield [Event(last, "gap", json_format.dumps({"first_available_id": None}))], True
            else:
                yield [], over
            if over:
                return

    async def _poll(self) -> None:
        """Ask the table for all readers until there are none."""
        at_once = True
        while self._readers:
            if not at_once:
                await asyncio.sleep(FOLLOW_SECONDS)
            at_once = False
            readers = list(self._readers)
            try:
                statuses, rows = await self._runtime.database.pipeline(
                    # Statuses first: a terminal run's events were committed no later than its status.
                    (_STATUS, {"run_ids": list({reader.run_id for reader in readers})}),
                    (
                        _EVENTS,
                        {
                            "run_ids": [reader.run_id for reader in readers],
                            "fences": [reader.cursor.fence for reader in readers],
                            "seqs": [reader.cursor.seq for reader in readers],
                        },
                    ),
                )
                at_once = self._answer(readers, statuses, rows)
                for row in statuses:
                    # The owner handed the run over or died, and knew nothing of the reader here. On Lambda the sweep
                    # runs elsewhere, and would take the reader for gone.
                    if row["reader_left_at"] is not None and row["run_id"] in self.following:
                        here = {"run_id": row["run_id"], "left_at": row["reader_left_at"]}
                        await self._runtime.database.execute(_STILL_HERE, here)
            except DATABASE_UNAVAILABLE:
                pass  # the readers wait; their connections have heartbeats
            except Exception:
                log.exception("events not read; the query is repeated", extra={"event": "follow.failed"})

    def _answer(self, readers: Sequence[_Remote], statuses: Sequence[Row], rows: Sequence[Row]) -> bool:
        """Give the readers their rows; whether there is more to read at once."""
        found = {row["run_id"]: row for row in statuses}
        given: list[list[Row]] = [[] for _ in readers]
        for row in rows:
            given[row["n"] - 1].append(row)
        full = sum(len(row["data"]) for row in rows) >= ROUND_BYTES // 4  # characters of up to four bytes
        for reader, own in zip(readers, given, strict=True):
            if full and not own:
                continue  # the poll may have been full before their rows came
            run = found.get(reader.run_id)
            new = reader.events = [event_of(row) for row in own]
            reader.more = _is_more(own)
            reader.status = run["status"] if run else None
            reader.last_event = run["last_event"] if run else None
            if new or run is None or run["status"] in TERMINAL or self._here(reader.run_id):
                reader.answered.set()
                self._readers.pop(reader, None)  # or the next poll would start at the old cursor
        return full


def _is_more(rows: Sequence[Row]) -> bool:
    """Whether there are rows after these for their reader."""
    return bool(rows) and (rows[0]["found"] > len(rows) or rows[0]["found"] >= PAGE)


def gap(cursor: EventId, first: EventId) -> list[Event]:
    """A `gap` event if events between `cursor` and `first` are gone, else nothing.

    Ids under one fence start at 1 and have no holes. What a lost process had not written was never in the log.
    """
    expected = cursor.seq + 1 if cursor.fence == first.fence else 1
    if first.seq == expected:
        return []
    return [
        Event(
            EventId(first.fence, first.seq - 1), "gap", json_format.dumps({"first_available_id": str(first)})
        )
    ]
