"""Holding a thread for a writer that is no run: a state update, a copy.

It holds the thread by the same row, lease and fence as a run, so it can neither meet a run nor outlive its lease.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from slackwater.errors import Conflict, Draining, NotFound
from slackwater.kit.ids import uuid7
from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE
from slackwater.postgres.group_commit import GroupCommit
from slackwater.postgres.pool import Database, Row
from slackwater.postgres.retry import retrying
from slackwater.runtime.events.journal import Journal
from slackwater.runtime.execution import engine
from slackwater.runtime.fenced.writer import Writer
from slackwater.runtime.queue import order
from slackwater.runtime.queue.claims import NEXT_FENCE
from slackwater.runtime.queue.lease import Lease
from slackwater.runtime.queue.states import ACTIVE

if TYPE_CHECKING:
    from slackwater.runtime.execution.checkpointer import RunSaver


log = logging.getLogger(__name__)

TRY_SECONDS = 5.0
"""How long a database is asked again that was away. Then the lease on the thread has to expire."""


class ThreadHeld(Conflict):
    """Thread is busy: a run or another write holds it. Wait for it to finish, or cancel it."""


@dataclass(frozen=True, slots=True)
class Held:
    """A thread that nobody else writes to."""

    saver: RunSaver
    writer: Writer
    lease: Lease


_FIND = "select thread_id from slackwater.threads where thread_id = %(thread_id)s and owner = %(owner)s for update"

_HOLD = f"""
insert into slackwater.runs (run_id, thread_id, owner, assistant_id, graph_id, kind, status, holds_thread, worker,
  lease_until, fence, epoch, attempt, claimed_at)
select %(run_id)s, t.thread_id, t.owner, %(assistant_id)s, %(graph_id)s, 'write', 'running', true, %(worker)s,
  clock_timestamp() + make_interval(secs => %(lease)s), {NEXT_FENCE}, slackwater.epoch(), 1,
  clock_timestamp()
from slackwater.threads t
where t.thread_id = %(thread_id)s and t.owner = %(owner)s and not exists (
  select 1 from slackwater.runs a where a.thread_id = t.thread_id and a.status in {ACTIVE})
returning fence, (select max(k.checkpoint_id) from checkpoints k
  where k.thread_id = %(thread_id)s::uuid::text and k.checkpoint_ns = '') as head"""

_HELD = """
select r.fence, (select max(k.checkpoint_id) from checkpoints k
  where k.thread_id = r.thread_id::text and k.checkpoint_ns = '') as head
from slackwater.runs r where r.run_id = %(run_id)s"""

_RAISE_FENCE = """
update slackwater.threads t set fence = r.fence, epoch = slackwater.epoch() from slackwater.runs r
where t.thread_id = %(thread_id)s and r.run_id = %(run_id)s"""

_RELEASE = """
delete from slackwater.runs where run_id = %(run_id)s and worker = %(worker)s and kind = 'write'"""


@asynccontextmanager
async def hold(
    database: Database,
    group_commit: GroupCommit,
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
    params: dict[str, Any] = {
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
        try:
            row = await _take(database, params)
        except asyncio.CancelledError:
            # The thread may be held by now, of which nobody has heard: until the lease expires.
            await _release(database, params, offer)
            raise
        if row["head"] is not None:
            engine.advance_past(row["head"])  # an update at an older checkpoint reads only that one
        lease = Lease(params["run_id"], thread_id, row["fence"], worker, sent + lease_seconds)
        try:
            writer = Writer(database, lease, Journal(lease.fence), group_commit)
            saver = engine.RunSaver(database, writer, keep_base=False, confined=True)
            yield Held(saver, writer, lease)
        finally:
            await _release(database, params, offer)


async def _take(database: Database, params: dict[str, Any]) -> Row:
    try:
        answers = await database.answers(
            found=(_FIND, params), taken=(_HOLD, params), raised=(_RAISE_FENCE, params)
        )
    except DATABASE_UNAVAILABLE:
        # Perhaps only the answer was lost: then nobody else could write until the lease expires.
        row = await retrying(lambda: database.fetch_one(_HELD, params), until=time.monotonic() + TRY_SECONDS)
        if row is None:
            raise
        return row
    if not answers["found"]:
        raise NotFound(f"Thread with ID {params['thread_id']} not found")
    if not answers["taken"]:
        raise ThreadHeld
    return answers["taken"][0]


async def _release(database: Database, params: dict[str, Any], offer: Callable[[], None]) -> None:
    """Give the thread back, and offer the run that can begin now. What was written stands, whether or not this succeeds."""
    try:
        answers = await retrying(
            lambda: database.answers(
                locked=(order.LOCK, params),
                released=(_RELEASE, params),
                promoted=(order.PROMOTE, params),
                notified=(order.NOTIFY, {"hint": order.HINT_WORK}),
            ),
            until=time.monotonic() + TRY_SECONDS,
        )
    except DATABASE_UNAVAILABLE as problem:
        log.warning(
            "thread not released: %s; its lease will expire",
            problem,
            extra={"event": "hold.unreleased", "thread_id": str(params["thread_id"])},
        )
        return
    if order.is_due(answers["promoted"]):
        offer()
