"""Holding a thread for a writer that is no run: a state update, a copy.

It holds the thread by the same row, lease and fence as a run, so it can neither meet a run nor outlive its lease.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from app.errors import Conflict, Draining, NotFound
from app.ids import uuid7
from app.postgres.pool import Database
from app.runtime import engine, queue
from app.runtime.journal import Journal
from app.runtime.lease import Lease

if TYPE_CHECKING:
    from app.runtime.saver import RunSaver


class ThreadHeld(Conflict):
    """Thread is busy: a run or another write holds it. Wait for it to finish, or cancel it."""


@dataclass(frozen=True, slots=True)
class Held:
    """A thread that nobody else writes to."""

    saver: RunSaver
    lease: Lease


_FIND = "select thread_id from slackwater.threads where thread_id = %(thread_id)s and owner = %(owner)s for update"

_HOLD = """
insert into slackwater.runs (run_id, thread_id, owner, assistant_id, graph_id, kind, status, holds_thread, worker,
  lease_until, fence, attempt, claimed_at)
select %(run_id)s, t.thread_id, t.owner, %(assistant_id)s, %(graph_id)s, 'write', 'running', true, %(worker)s,
  clock_timestamp() + make_interval(secs => %(lease)s), t.fence + 1, 1, clock_timestamp()
from slackwater.threads t
where t.thread_id = %(thread_id)s and t.owner = %(owner)s and not exists (
  select 1 from slackwater.runs a where a.thread_id = t.thread_id and a.status in ('pending', 'running'))
returning fence, (select max(k.checkpoint_id) from checkpoints k
  where k.thread_id = %(thread_id)s::uuid::text and k.checkpoint_ns = '') as head"""

_RAISE_FENCE = """
update slackwater.threads set fence = fence + 1 where thread_id = %(thread_id)s and owner = %(owner)s
  and exists (select 1 from slackwater.runs where run_id = %(run_id)s)"""

_RELEASE = "delete from slackwater.runs where run_id = %(run_id)s and kind = 'write'"


@asynccontextmanager
async def hold(
    database: Database,
    *,
    thread_id: UUID,
    owner: str,
    graph_id: str,
    assistant_id: UUID,
    worker: str,
    lease_seconds: float,
    offer: Callable[[], None],
) -> AsyncIterator[Held]:
    """The thread for this writer alone. Raises NotFound, and ThreadHeld when somebody else holds it.

    `offer` is called when a run has come meanwhile that can begin now.
    """
    params = {
        "run_id": uuid7(),
        "thread_id": thread_id,
        "owner": owner,
        "graph_id": graph_id,
        "assistant_id": assistant_id,
        "worker": worker,
        "lease": lease_seconds,
    }
    await engine.load()
    if database.gate.is_shut:
        raise Draining
    async with database.gate.operation():  # the pool stays open until the hold is released
        sent = time.monotonic()
        found, row, _ = await database.pipeline((_FIND, params), (_HOLD, params), (_RAISE_FENCE, params))
        if not found:
            raise NotFound(f"Thread with ID {thread_id} not found")
        if not row:
            raise ThreadHeld
        if row[0]["head"] is not None:
            engine.advance_past(row[0]["head"])  # an update at an older checkpoint reads only that one
        lease = Lease(params["run_id"], thread_id, row[0]["fence"], sent + lease_seconds)  # type: ignore[arg-type]
        try:
            saver = engine.RunSaver(database, lease, Journal(lease.fence), keep_base=False, confined=True)
            yield Held(saver, lease)
        finally:
            _, _, promoted, _ = await database.pipeline(
                (queue.LOCK, params),
                (_RELEASE, params),
                (queue.PROMOTE, params),
                (queue.NOTIFY, {"hint": queue.HINT_WORK}),
            )
            if any(row["ready"] and row["due"] for row in promoted):
                offer()
