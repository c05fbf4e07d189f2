"""Readers of a thread: the events of all its runs in order.

Ids are ordered across a thread's runs, since each claim raises the thread's fence, and a run keeps its thread until it ends.
One task per process reads the table for all readers, so it does not matter which process works on a run.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE
from slackwater.runtime.events.journal import BATCH_BYTES, BEGINNING, EventId
from slackwater.runtime.events.packs import first_id
from slackwater.runtime.events.partials import Partials
from slackwater.runtime.events.run_reader import (
    FOLLOW_SECONDS,
    PAGE,
    ROUND_BYTES,
    RunGone,
    StreamCut,
    gap,
    reads_within,
)

if TYPE_CHECKING:
    from slackwater.runtime.runtime import Runtime

log = logging.getLogger(__name__)

LEAST_SECONDS = 0.01
"""The shortest pause between two polls, however much is stored."""

RUN_DONE = "run_done"
"""The event for the end of a run. It is not in the log but made from the run's row. Nothing more is ever written under the
run's last fence, so its id is the one after its last event's."""


class ThreadEvent(NamedTuple):
    """An event of a thread. `data` is JSON, `at` milliseconds since the epoch, on the database's clock."""

    id: EventId
    name: str
    data: bytes
    run_id: UUID | None = None
    at: int = 0
    graph_id: str = ""
    """The run's graph."""
    status: str | None = None
    """The run's terminal status, in RUN_DONE only."""


# Read in one snapshot: a run that is seen to have ended is seen with all its events.
def _log(order: str) -> str:
    return f"""
select e.fence, e.seq, e.event, e.data, e.run_id, e.created_at as at, null::text as status from slackwater.run_events e
 where e.thread_id = c.thread_id and (e.fence, e.seq) > (c.fence, c.seq)
   and coalesce((select x.trimmed is null from slackwater.runs x where x.run_id = e.run_id), true) order by {order} limit {PAGE}"""


_ENDS = f"""
select r.fence, x.last + 1 as seq, '{RUN_DONE}' as event, r.run_id::text as data, r.run_id,
  coalesce(r.ended_at, r.updated_at) as at, r.status
  from slackwater.runs r, lateral (select greatest(
    coalesce((select max(e.seq) from slackwater.run_events e where e.run_id = r.run_id and e.fence = r.fence), 0),
    case when split_part(r.last_event, '-', 1) = r.fence::text then split_part(r.last_event, '-', 2)::int else 0 end
  ) as last) x
 where r.thread_id = c.thread_id and r.kind = 'run' and r.fence > 0 and r.fence >= c.fence
   and r.status in ('success', 'error', 'timeout', 'interrupted') and (r.fence, x.last + 1) > (c.fence, c.seq)"""

# At least one entry for each reader, however large, except for readers behind the limit of one poll.
_READ = f"""
select * from (
select c.n, t.created_at as born, l.fence, l.seq, l.event, l.data, l.run_id, l.status, g.graph_id,
  (extract(epoch from l.at) * 1000)::bigint as at, l.found,
  sum(coalesce(l.size, 0)) over (order by c.n, l.fence, l.seq) - coalesce(l.size, 0) as ahead
  from unnest(%(threads)s::uuid[], %(owners)s::text[], %(fences)s::bigint[], %(seqs)s::int[])
       with ordinality as c(thread_id, owner, fence, seq, n)
  left join slackwater.threads t on t.thread_id = c.thread_id and t.owner = c.owner
  left join lateral (
    select * from (
      select f.*, count(*) over () as found, sum(f.size) over (order by f.fence, f.seq) - f.size as before from (
        select a.*, octet_length(a.data) as size from (({_log("e.fence, e.seq")}) union all ({_ENDS} order by 1 limit {PAGE})) a
         order by fence, seq limit {PAGE}) f) b
     where before < {BATCH_BYTES}
  ) l on t.thread_id is not null
  left join slackwater.runs g on g.run_id = l.run_id
) r where ahead < {ROUND_BYTES} order by n, fence, seq"""

_NEWEST = f"""
select c.fence, coalesce(a.seq, 0) as seq from (
  select t.thread_id, t.fence, 0 as seq from slackwater.threads t
   where t.thread_id = %(thread_id)s and t.owner = %(owner)s) c
  left join lateral (({_log("e.fence desc, e.seq desc")})
    union all ({_ENDS} order by 1 desc limit 1)) a
    on true order by a.seq desc nulls last limit 1"""
# Only the thread's current fence matters: nothing is written under older ones any more.


@dataclass(slots=True, eq=False)
class _Reader:
    thread_id: UUID
    owner: str
    cursor: EventId
    patient: bool
    """Waits for a thread that does not exist yet, and stays until this process takes no more requests."""
    within: bool = field(default_factory=reads_within.get)
    entries: list[ThreadEvent] = field(default_factory=list)
    more: bool = False
    """There are entries after these."""
    born: datetime | None = None
    """When the thread was created, once it exists: it may be deleted, and another created under its id."""
    gone: bool = False
    answered: asyncio.Event = field(default_factory=asyncio.Event)


class ThreadLog:
    """Reads the events of threads for clients."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._readers: dict[_Reader, None] = {}
        """The readers that wait for the next poll, in order of arrival."""
        self._followed: Counter[UUID] = Counter()
        self._task: asyncio.Task[None] | None = None
        self._nudged = asyncio.Event()
        self._leaving = False
        self._closed = False
        self.closing = asyncio.Event()
        """This process takes no more requests: the last poll has begun."""

    def cut(self) -> None:
        """Let go of all but the readers who stay: this process is about to leave, and the threads continue elsewhere."""
        self._leaving = True
        for reader in self._readers:
            if not (reader.patient or reader.within):
                reader.answered.set()

    def close(self) -> None:
        """Let go of all readers, once they have what is stored by now."""
        self.cut()
        self.closing.set()
        self._nudged.set()

    async def stop(self, timeout: float) -> None:
        """End the polling task."""
        self._let_go()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=timeout)

    def nudge(self, thread_id: UUID) -> None:
        """This process has stored something for the thread: its readers need not wait for the next poll."""
        if thread_id in self._followed:
            self._nudged.set()

    def _let_go(self) -> None:
        self._leaving = self._closed = True
        self.closing.set()
        for reader in self._readers:
            reader.answered.set()

    async def newest(self, owner: str, thread_id: UUID) -> EventId:
        """The id of the newest event, for readers who want only what comes next."""
        row = await self._runtime.database.fetch_one(_NEWEST, {"thread_id": thread_id, "owner": owner})
        return EventId(row["fence"], row["seq"]) if row else BEGINNING

    async def follow(
        self, owner: str, thread_id: UUID, cursor: EventId, *, patient: bool = False
    ) -> AsyncGenerator[list[ThreadEvent]]:
        """The thread's events after `cursor` in batches, without end.

        Raises StreamCut if this process is leaving, and RunGone if the thread is deleted or, unless the reader is `patient`,
        does not exist. An event named `gap` stands for events that retention has trimmed.
        """
        self._followed[thread_id] += 1
        try:
            async with aclosing(self._follow(_Reader(thread_id, owner, cursor, patient))) as batches:
                async for batch in batches:
                    yield batch
        finally:
            self._followed[thread_id] -= 1
            if not self._followed[thread_id]:
                del self._followed[thread_id]

    async def _follow(self, reader: _Reader) -> AsyncGenerator[list[ThreadEvent]]:
        partials = Partials(self._runtime.database, lambda: self._has_cut(reader))
        while True:
            reader.answered.clear()
            self._readers[reader] = None
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._poll(), name="thread-log")
            try:
                if not self._has_cut(reader):
                    await reader.answered.wait()
            finally:
                self._readers.pop(reader, None)
            entries, reader.entries = reader.entries, []
            if entries:
                batch: list[ThreadEvent] = []
                after = reader.cursor
                for entry in entries:
                    first = first_id(entry, reader.cursor)
                    batch += [*(ThreadEvent(*missing) for missing in gap(reader.cursor, first)), entry]
                    reader.cursor = entry.id
                if reader.more:
                    self._nudged.set()
                async with aclosing(partials.restored(batch, None, BATCH_BYTES, after)) as restored:
                    async for part in restored:
                        yield part
            elif self._has_cut(reader):
                raise StreamCut
            elif reader.gone:
                raise RunGone

    def _has_cut(self, reader: _Reader) -> bool:
        return self._closed if reader.patient or reader.within else self._leaving

    async def _poll(self) -> None:
        """Ask the table for all readers until there are none."""
        first = True
        while self._readers:
            if not first:
                with suppress(TimeoutError):
                    async with asyncio.timeout(FOLLOW_SECONDS):
                        await asyncio.sleep(LEAST_SECONDS)
                        await self._nudged.wait()
            first = False
            self._nudged.clear()
            last = self.closing.is_set()
            readers = list(self._readers)
            try:
                rows = await self._runtime.database.fetch(
                    _READ,
                    {
                        "threads": [reader.thread_id for reader in readers],
                        "owners": [reader.owner for reader in readers],
                        "fences": [reader.cursor.fence for reader in readers],
                        "seqs": [reader.cursor.seq for reader in readers],
                    },
                )
            except DATABASE_UNAVAILABLE:
                pass  # the readers wait; their connections have heartbeats
            except Exception:
                log.exception("events not read; the query is repeated", extra={"event": "follow.failed"})
            else:
                left_out = _answer(readers, rows)
                for reader in readers:
                    if reader.answered.is_set():
                        self._readers.pop(reader, None)
                if left_out:
                    self._nudged.set()
                    last = False  # some reader does not have its events yet
            if last:
                self._let_go()


def _answer(readers: Sequence[_Reader], rows: Sequence[dict[str, Any]]) -> bool:
    """Give the readers their rows; whether some had to be left out."""
    for row in rows:
        reader = readers[row["n"] - 1]
        reader.born = reader.born or row["born"]
        reader.gone = row["born"] != reader.born or (reader.born is None and not reader.patient)
        if row["fence"] is not None and not reader.gone:
            reader.entries.append(
                ThreadEvent(
                    EventId(row["fence"], row["seq"]),
                    row["event"],
                    row["data"].encode(),
                    row["run_id"],
                    row["at"],
                    row["graph_id"] or "",
                    row["status"],
                )
            )
            reader.more = row["found"] > len(reader.entries) or row["found"] >= PAGE
        if reader.entries or reader.gone:
            reader.answered.set()
    return len({row["n"] for row in rows}) < len(readers)
