"""Tasks in SQL: runs on threads, those that answer what another one of the same task has asked taken as one."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from slackwater.identity.custom.queries import OWN, Visible
from slackwater.postgres.pool import Database
from slackwater.runtime.events.deltas import DELTA_OF
from slackwater.runtime.events.journal import event_of
from slackwater.runtime.events.partials import Partials
from slackwater.runtime.queue.states import ACTIVE, KEYS_KEPT

Row = dict[str, Any]

TASK = "a2a_task"
"""The key of a run's metadata with the id of the run that its task began with."""

_FIRST = f"coalesce(r.metadata ->> '{TASK}', r.run_id::text)"

# What a thread shows comes from the run that was worked on last; runs that still wait for it have changed nothing.
_LAST = """(r.fence = (select max(l.fence) from slackwater.runs l where l.thread_id = r.thread_id and l.kind = 'run'))"""

# What a thread asks, its newest run has asked: that is there for as long as the thread, where the log is not.
_STATE = f"""case when r.status = 'pending' and r.attempt = 0 then 'submitted'
  when r.status in {ACTIVE} then 'working' when r.status = 'interrupted' then 'canceled'
  when r.status <> 'success' then 'failed'
  when t.status = 'interrupted' and {_LAST} then 'input-required' else 'completed' end"""

_COLUMNS = f"""r.run_id, r.thread_id, r.metadata, r.kwargs, r.error, r.status, r.updated_at, {_FIRST} as first_run_id,
  {_STATE} as state, t.interrupts,
  case when r.status not in {ACTIVE} and {_LAST} then t."values" end as "values" """

# Each part by an index of its own, however many runs the thread has had.
_NEWEST = f"""
select {_COLUMNS} from (
  select * from slackwater.runs where run_id = %(run_id)s and thread_id = %(thread_id)s and not metadata ? '{TASK}'
  union all
  select * from slackwater.runs
  where thread_id = %(thread_id)s and metadata ? '{TASK}' and metadata ->> '{TASK}' = %(run_id)s::uuid::text
) r join slackwater.threads t using (thread_id)
where r.owner = %(owner)s and r.kind = 'run' and r.assistant_id = %(assistant_id)s
order by r.seq desc limit 1"""


async def newest(
    database: Database, owner: str, assistant_id: UUID, thread_id: UUID, run_id: UUID
) -> Row | None:
    """The newest run of the task that began with the run, if it is the owner's and the assistant's."""
    params = {"owner": owner, "assistant_id": assistant_id, "thread_id": thread_id, "run_id": run_id}
    return await database.fetch_one(_NEWEST, params)


_DELIVERED = f"""
select r.run_id, r.thread_id, r.metadata, r.kwargs, r.updated_at
from slackwater.idempotency_keys k join slackwater.runs r using (run_id)
where k.owner = %(owner)s and k.key = %(key)s and k.created_at >= clock_timestamp() - {KEYS_KEPT}"""


async def delivered(database: Database, owner: str, key: str) -> Row | None:
    """The run that a message has started when it came before."""
    return await database.fetch_one(_DELIVERED, {"owner": owner, "key": key})


def _list(more: str) -> str:
    return f"""
with newest as (
  select distinct on (r.thread_id, {_FIRST}) r.* from slackwater.runs r
  where r.owner = %(owner)s and r.kind = 'run' and r.assistant_id = %(assistant_id)s
    and r.thread_id = any(array(
      select o.thread_id from slackwater.threads o where o.owner = %(owner)s and not o.hidden
        and (%(thread_id)s::uuid is null or o.thread_id = %(thread_id)s){more}))
  order by r.thread_id, {_FIRST}, r.seq desc
), page as (
  select r.*, count(*) over () as total from newest r join slackwater.threads t on t.thread_id = r.thread_id and not t.hidden
  where (%(after)s::timestamptz is null or r.updated_at > %(after)s) and (%(state)s::text is null or {_STATE} = %(state)s)
  order by r.updated_at desc, r.seq desc limit %(limit)s offset %(offset)s
)
select {_COLUMNS}, r.total from page r join slackwater.threads t using (thread_id) order by r.updated_at desc, r.seq desc"""


_LIST = _list("")


async def list_(
    database: Database,
    owner: str,
    assistant_id: UUID,
    *,
    thread_id: UUID | None,
    state: str | None,
    after: datetime | None,
    limit: int,
    offset: int,
    seen: Visible = OWN,
) -> list[Row]:
    """The newest run of each task of the assistant, the newest first, with the number of all of them in `total`.

    Only tasks on threads that are `seen`.
    """
    params = {
        **seen.parameters,
        "owner": owner,
        "assistant_id": assistant_id,
        "thread_id": thread_id,
        "state": state,
        "after": after,
        "limit": limit,
        "offset": offset,
    }
    if seen is OWN:
        return await database.fetch_page(_LIST, params, limit)
    more = f"\n        and o.thread_id in (select thread_id from slackwater.threads where {seen.condition})"
    return await database.fetch_page(_list(more), params, limit)


_VALUES = f"""
select distinct on (run_id) run_id, fence, seq, event, data from slackwater.run_events
where run_id = any(%(run_ids)s::uuid[]) and event in ('values', '{DELTA_OF}values') order by run_id, fence desc, seq desc"""


async def last_values(database: Database, run_ids: list[UUID]) -> dict[UUID, bytes]:
    """What runs have come to, as JSON, as long as their logs are kept: for those after which others have come."""
    rows = await database.fetch_page(_VALUES, {"run_ids": run_ids}, len(run_ids)) if run_ids else []
    found = {}
    for row in rows:
        # Fences are those of one thread: each run has a reader of its own.
        whole = await Partials(database, lambda: True).whole(event_of(row), row["run_id"])
        if whole is not None and whole.name == "values":
            found[row["run_id"]] = whole.data
    return found
