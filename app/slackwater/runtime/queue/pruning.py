"""Deletes threads or their history, on request or because they have expired.

Each call is one transaction, so that a process that dies in the middle leaves nothing half-done. It first locks the threads'
rows, in the order of their ids. Starting or ending a run, or holding a thread, takes the same lock first, so a thread's runs
cannot change until the transaction ends.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from slackwater.identity.audit.actor import NOBODY, Actor, AuditAction
from slackwater.identity.audit.queries import audited
from slackwater.postgres.pool import Database
from slackwater.runtime.queue import erasure
from slackwater.runtime.queue.batch import Batch
from slackwater.runtime.queue.states import ACTIVE

if TYPE_CHECKING:
    from slackwater.project.ttl import TtlPolicy

log = logging.getLogger(__name__)

BATCH = 50
"""How many threads the sweep deletes at once."""

EXPIRES = "(t.updated_at at time zone 'UTC') + t.ttl_minutes * interval '1 minute'"

_OVERDUE = f"""t.ttl_minutes is not null and (t.swept_at is null or t.swept_at < t.updated_at)
  and {EXPIRES} < (now() at time zone 'UTC')"""

# A thread with an active cron is needed at the next date. It expires once there is none.
_AWAITED = """(t.ttl_strategy = 'delete' and coalesce((select true from slackwater.crons c
    where c.thread_id = t.thread_id and c.enabled and c.next_run_date is not null limit 1), false))"""
# Not `exists`, which within an `and` is planned as a hash of all crons.

# A running run holds its thread. Each condition is one index lookup, however many runs a thread has had.
_IDLE = """not exists (select 1 from slackwater.runs a where a.thread_id = t.thread_id and a.status = 'pending')
  and not exists (select 1 from slackwater.runs a where a.thread_id = t.thread_id and a.holds_thread)"""

# LangGraph reads a delta channel from the checkpoints before the newest one, so the history must stay.
_WHOLE = """not exists (select 1 from checkpoints d where d.thread_id = t.thread_id::text
    and d.metadata ? 'counters_since_delta_snapshot')"""

_MINE = "select t.thread_id from slackwater.threads t where t.thread_id = any(%(threads)s) and t.owner = %(owner)s"

_MINE_AND_ALL_IDLE = f"""{_MINE} and {_WHOLE} and not exists (select 1 from slackwater.runs a
  where a.thread_id = any(%(threads)s) and a.owner = %(owner)s and a.status in {ACTIVE})"""

# Checked again under the locks: the expiry, the strategy and the runs may have changed since the thread was found.
_EXPIRED = f"""select t.thread_id from slackwater.threads t where t.thread_id = any(%(threads)s)
  and t.ttl_strategy = %(strategy)s and {_OVERDUE} and {_IDLE} and not {_AWAITED}"""

_LOCK_MINE = f"{_MINE} order by t.thread_id for update"
_LOCK = "select thread_id from slackwater.threads where thread_id = any(%(threads)s) order by thread_id for update"

_BUSY = f"""select thread_id from slackwater.runs where thread_id = any(%(threads)s) and owner = %(owner)s
  and status in {ACTIVE} order by thread_id limit 1"""


def _keep_latest(chosen: str) -> list[str]:
    """Statements that delete the history of the threads that `chosen` selects. What is pending at their heads stays, in
    subgraphs, too: a namespace without a task's id keeps its state from call to call, the others belong to one superstep.
    """
    named = f"(select x.thread_id::text as thread_id from ({chosen}) x)"
    return [
        f"""delete from checkpoints c using (
              select n.thread_id, (select max(k.checkpoint_id) from checkpoints k
                where k.thread_id = n.thread_id and k.checkpoint_ns = '') as head from {named} n) h
             where c.thread_id = h.thread_id and not (
               c.checkpoint_id = (select max(k.checkpoint_id) from checkpoints k
                 where k.thread_id = c.thread_id and k.checkpoint_ns = c.checkpoint_ns)
               and (strpos(c.checkpoint_ns, ':') = 0 or coalesce(c.metadata -> 'parents' ->> '' = h.head, false)))""",
        f"""delete from checkpoint_writes w where w.thread_id in {named} and not exists (
              select 1 from checkpoints c where c.thread_id = w.thread_id and c.checkpoint_ns = w.checkpoint_ns
                and c.checkpoint_id = w.checkpoint_id)""",
        f"""delete from checkpoint_blobs b where b.thread_id in {named} and not exists (
              select 1 from checkpoints c where c.thread_id = b.thread_id and c.checkpoint_ns = b.checkpoint_ns
                and c.checkpoint -> 'channel_versions' ->> b.channel = b.version)""",
        f"""update checkpoints c set parent_checkpoint_id = null where c.thread_id in {named}
              and c.parent_checkpoint_id is not null and not exists (
                select 1 from checkpoints p where p.thread_id = c.thread_id and p.checkpoint_ns = c.checkpoint_ns
                  and p.checkpoint_id = c.parent_checkpoint_id)""",
    ]


_AUDIT_MINE = f"""
with mine as (select m.owner, m.thread_id from slackwater.threads m where m.thread_id in ({_MINE})),
{audited("mine", AuditAction.THREAD_DELETED, "thread_id")} select 1"""

_DELETE_MINE = [_LOCK_MINE, _AUDIT_MINE, *erasure.threads(_MINE)]
_KEEP_MINE = [_LOCK_MINE, _BUSY, *_keep_latest(_MINE_AND_ALL_IDLE)]

_MARK = f"""update slackwater.threads t set swept_at = clock_timestamp() where t.thread_id in ({_EXPIRED})
  returning t.thread_id"""

_EXPIRE = {
    "delete": [_LOCK, *erasure.threads(_EXPIRED)],
    "keep_latest": [_LOCK, *_keep_latest(f"{_EXPIRED} and {_WHOLE}"), _MARK],
}

_OVERDUE_NOW = f"""select t.thread_id, t.ttl_strategy from slackwater.threads t
where {_OVERDUE} and {_IDLE} and not {_AWAITED} order by {EXPIRES} limit %(limit)s"""

_BEGIN_ROUND = """update slackwater.rounds set begun_at = clock_timestamp()
where name = 'thread_ttl' and begun_at < clock_timestamp() - make_interval(secs => %(seconds)s) returning name"""


_DUE = """
select run_id, thread_id from slackwater.runs where delete_at < now() and trimmed = 'gone'
order by delete_at limit %(limit)s"""
# Only runs whose events `retention` has deleted already: there may be any number of them.

# Under the locks, each with a new snapshot: another run may have been admitted since the first query.
_DELETE_DUE = [
    _LOCK,
    erasure.runs_and_theirs("r.run_id = any(%(runs)s) and r.delete_at < clock_timestamp()"),
    erasure.threads_without_runs(
        """t.thread_id = any(%(threads)s) and t.hidden
        and not exists (select 1 from slackwater.runs r where r.thread_id = t.thread_id)"""
    ),
]


async def delete_due(database: Database, limit: int = 500) -> int:
    """Delete stateless runs that are due and whose events are gone, and their threads; the number of runs."""
    due = await database.fetch(_DUE, {"limit": limit})
    if not due:
        return 0
    params = {"runs": [row["run_id"] for row in due], "threads": [row["thread_id"] for row in due]}
    _, runs, _ = await database.pipeline(*((statement, params) for statement in _DELETE_DUE))
    return len(runs)


_LIVE = """select distinct thread_id from slackwater.runs where thread_id = any(%(threads)s) and owner = %(owner)s
  and kind = 'run' and status = 'running' and lease_until > clock_timestamp()"""


async def live(database: Database, owner: str, threads: Collection[UUID]) -> list[UUID]:
    """Those of `threads` that have a running run of this owner with a valid lease."""
    rows = await database.fetch(_LIVE, {"threads": list(threads), "owner": owner})
    return [row["thread_id"] for row in rows]


async def delete(database: Database, owner: str, threads: Collection[UUID], actor: Actor = NOBODY) -> int:
    """Delete those of `threads` that belong to the owner, whatever runs on them; how many."""
    params = {"threads": list(threads), "owner": owner, **actor.parameters}
    *_, deleted = await database.pipeline(*((statement, params) for statement in _DELETE_MINE))
    return len(deleted)


@dataclass(frozen=True, slots=True)
class Kept:
    """How many threads were reduced to their newest checkpoint; 0 if `busy`, a thread with an active run, is set."""

    count: int
    busy: UUID | None


async def keep_latest(database: Database, owner: str, threads: Collection[UUID]) -> Kept:
    """Delete the history of those of `threads` that belong to the owner, if none has an active run: all or nothing."""
    params = {"threads": list(threads), "owner": owner}
    found, busy, *_ = await database.pipeline(*((statement, params) for statement in _KEEP_MINE))
    return Kept(0, busy[0]["thread_id"]) if busy else Kept(len(found), None)


async def expire(database: Database, ttl: TtlPolicy, batch: Batch | None = None) -> int:
    """Delete or reduce the threads that have expired; how many.

    One process does this per interval. Two at the same time would do no harm.
    """
    seconds = ttl.interval_minutes * 60
    if await database.fetch_one(_BEGIN_ROUND, {"seconds": seconds}) is None:
        return 0
    gone, left, batch = 0, ttl.limit, batch or Batch(BATCH, BATCH)
    while left > 0:
        with batch.sized() as limit:
            rows = await database.fetch(_OVERDUE_NOW, {"limit": min(left, limit)})
            for strategy, statements in _EXPIRE.items():
                threads = [row["thread_id"] for row in rows if row["ttl_strategy"] == strategy]
                if threads:
                    params: dict[str, Any] = {"threads": threads, "strategy": strategy}
                    *_, expired = await database.pipeline(*((statement, params) for statement in statements))
                    gone += len(expired)
        if not rows:
            break
        left -= len(rows)
    if gone:
        log.info("threads that expired", extra={"event": "threads.expired", "threads": gone})
    return gone
