"""What the person who runs the service may see and do: the runs of every owner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from slackwater.postgres.pool import Database, Row
from slackwater.runtime.queue.states import ACTIVE

_COLUMNS = """r.run_id, r.thread_id, r.assistant_id, r.graph_id, r.owner as principal, r.status, r.attempt, r.handovers,
 r.reason, r.worker as owner, r.fence, r.stopped, r.stalls, r.holds_thread, r.multitask_strategy, r.created_at,
 r.updated_at, r.available_at, r.started_at, r.ended_at, r.lease_until, r.cancel_action, r.cancel_reason, r.cancel_at,
 r.error, r.available_at > clock_timestamp() as delayed,
 extract(epoch from r.lease_until - clock_timestamp())::float as lease_seconds"""

# Between two hand-overs only the checkpoints themselves know how far the run has come.
_LAST_CHECKPOINT = """coalesce((select max(k.checkpoint_id) from checkpoints k where k.thread_id = r.thread_id::text
 and k.checkpoint_ns = '' and k.metadata ->> 'run_id' = r.run_id::text), r.last_checkpoint_id) as last_checkpoint_id"""

_FIND = f"""
select {_COLUMNS}, {_LAST_CHECKPOINT} from slackwater.runs r where r.run_id = %(run_id)s and r.kind = 'run'"""

_LIST = f"""
select {_COLUMNS}, {_LAST_CHECKPOINT} from slackwater.runs r
where r.kind = 'run' and (%(statuses)s::text[] is null or r.status = any(%(statuses)s))
  and (%(thread_id)s::uuid is null or r.thread_id = %(thread_id)s)
order by r.created_at desc, r.seq desc limit %(limit)s"""

_LEAVE_TO_SWEEP = f"""
update slackwater.threads t set status = 'busy' where t.thread_id = %(thread_id)s and not exists (
  select 1 from slackwater.runs r where r.thread_id = t.thread_id and r.status in {ACTIVE})"""

_SERVER = """
select current_setting('max_connections')::int as max_connections,
  (select count(*)::int from pg_stat_activity where backend_type = 'client backend') as connections"""


async def find(database: Database, run_id: UUID) -> Row | None:
    """One run."""
    return await database.fetch_one(_FIND, {"run_id": run_id})


async def list_(
    database: Database, *, statuses: Sequence[str], thread_id: UUID | None, limit: int
) -> list[Row]:
    """Runs, newest first; no statuses: of any."""
    return await database.fetch(
        _LIST, {"statuses": list(statuses) or None, "thread_id": thread_id, "limit": limit}
    )


async def leave_to_sweep(database: Database, thread_id: UUID) -> None:
    """Let the next sweep of any process refresh the thread's row from its checkpoint, which takes its graph."""
    await database.execute(_LEAVE_TO_SWEEP, {"thread_id": thread_id})


async def server_facts(database: Database) -> dict[str, Any]:
    """`max_connections` of the server, and how many `connections` it has."""
    return await database.fetch_one(_SERVER) or {}
