"""The SQL of threads. Each statement holds the owner; what another owns is not there.

Lock order, as everywhere: the thread's row first, then those of its runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from app.postgres.pool import Database, Row
from app.threads.models import SortBy, ThreadFilter, ThreadSearch

_COLUMNS: LiteralString = (
    "thread_id, created_at, updated_at, state_updated_at, metadata, status, config, "
    '"values", interrupts, error'
)

_NAMES: dict[str, LiteralString] = {
    "thread_id": "thread_id",
    "created_at": "created_at",
    "updated_at": "updated_at",
    "state_updated_at": "state_updated_at",
    "metadata": "metadata",
    "config": "config",
    "status": "status",
    "values": '"values"',
    "interrupts": "interrupts",
}

_FILTER: LiteralString = """
    owner = %(owner)s and not hidden
    and (%(ids)s::uuid[] is null or thread_id = any(%(ids)s))
    and (%(metadata)s::jsonb is null or metadata @> %(metadata)s)
    and (%(values)s::jsonb is null or "values" @> %(values)s)
    and (%(status)s::text is null or status = %(status)s)
"""

_LOCK: LiteralString = """
    select thread_id from slackwater.threads where thread_id = %(thread_id)s and owner = %(owner)s for update
"""

_OWNED: LiteralString = """
    exists (select 1 from slackwater.threads t where t.thread_id = %(thread_id)s and t.owner = %(owner)s)
"""

_DELETE: tuple[LiteralString, ...] = (
    _LOCK,
    """
    delete from slackwater.idempotency_keys k using slackwater.runs r
     where r.thread_id = %(thread_id)s and r.owner = %(owner)s and k.run_id = r.run_id
    """,
    # Before everything that a run writes: a write in flight holds its run's row, is waited for here, and what it
    # wrote is seen by the statements below. A later one finds its fence gone.
    "delete from slackwater.runs where thread_id = %(thread_id)s and owner = %(owner)s",
    f"delete from slackwater.run_events where thread_id = %(thread_id)s and {_OWNED}",
    f"delete from slackwater.base_writes where thread_id = %(thread_id)s::uuid::text and {_OWNED}",
    f"delete from checkpoints where thread_id = %(thread_id)s::uuid::text and {_OWNED}",
    f"delete from checkpoint_blobs where thread_id = %(thread_id)s::uuid::text and {_OWNED}",
    f"delete from checkpoint_writes where thread_id = %(thread_id)s::uuid::text and {_OWNED}",
    "delete from slackwater.threads where thread_id = %(thread_id)s and owner = %(owner)s returning thread_id",
)

# One statement, one snapshot: a run may be writing to the source, and stores a checkpoint with all its parts at once.
# Nobody else knows the target before it is committed, so nothing has to hold it.
_COPY: LiteralString = """
with source as (
  select thread_id, metadata, config from slackwater.threads
   where thread_id = %(thread_id)s and owner = %(owner)s
), copied_checkpoints as (
  insert into checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata)
  select %(target)s::uuid::text, c.checkpoint_ns, c.checkpoint_id, c.parent_checkpoint_id, c.type, c.checkpoint,
         c.metadata
    from checkpoints c join source on c.thread_id = source.thread_id::text
), copied_blobs as (
  insert into checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
  select %(target)s::uuid::text, b.checkpoint_ns, b.channel, b.version, b.type, b.blob
    from checkpoint_blobs b join source on b.thread_id = source.thread_id::text
), copied_writes as (
  insert into checkpoint_writes
         (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
  select %(target)s::uuid::text, w.checkpoint_ns, w.checkpoint_id, w.task_id, w.task_path, w.idx, w.channel, w.type,
         w.blob
    from checkpoint_writes w join source on w.thread_id = source.thread_id::text
)
insert into slackwater.threads (thread_id, owner, metadata, config, state_updated_at)
select %(target)s, %(owner)s, metadata, config, now() from source
returning thread_id
"""


async def insert(database: Database, owner: str, thread_id: UUID, metadata: dict[str, Any]) -> Row | None:
    """The new thread, or None if its id is taken, by whomever."""
    return await database.fetch_one(
        f"""
        insert into slackwater.threads (thread_id, owner, metadata, state_updated_at)
        values (%(thread_id)s, %(owner)s, %(metadata)s, now())
        on conflict (thread_id) do nothing
        returning {_COLUMNS}
        """,
        {"thread_id": thread_id, "owner": owner, "metadata": Jsonb(metadata)},
    )


async def find(database: Database, owner: str, thread_id: UUID) -> Row | None:
    return await database.fetch_one(
        f"select {_COLUMNS} from slackwater.threads where thread_id = %s and owner = %s", [thread_id, owner]
    )


async def find_graph(database: Database, owner: str, thread_id: UUID) -> Row | None:
    """What must be known of a thread to open its graph: `metadata` and `config`."""
    return await database.fetch_one(
        "select metadata, config from slackwater.threads where thread_id = %s and owner = %s",
        [thread_id, owner],
    )


async def search(database: Database, owner: str, ids: Sequence[UUID], query: ThreadSearch) -> list[Row]:
    """One page and, where there is more, the first row of the next one; only the selected columns."""
    columns = ", ".join(_NAMES[name] for name in query.select) if query.select else _COLUMNS
    sort_by: SortBy = query.sort_by or "updated_at"
    direction: LiteralString = "asc" if query.sort_order == "asc" else "desc"
    # Where nothing can be null, `nulls last` would only keep the index from being used.
    nulls: LiteralString = "nulls last" if sort_by == "state_updated_at" else ""
    return await database.fetch(
        f"select {columns} from slackwater.threads where {_FILTER} "
        f"order by {_NAMES[sort_by]} {direction} {nulls}, thread_id {direction} "
        "limit %(limit)s offset %(offset)s",
        {**_filter(owner, ids, query), "limit": query.limit + 1, "offset": query.offset},
    )


async def count(database: Database, owner: str, ids: Sequence[UUID], query: ThreadFilter) -> int:
    row = await database.fetch_one(
        f"select count(*) as number from slackwater.threads where {_FILTER}", _filter(owner, ids, query)
    )
    return int(row["number"]) if row else 0


async def merge_metadata(
    database: Database, owner: str, thread_id: UUID, metadata: dict[str, Any]
) -> Row | None:
    """The thread with `metadata` merged over its own, or None if the owner has no such thread."""
    return await database.fetch_one(
        f"""
        update slackwater.threads set metadata = metadata || %(metadata)s, updated_at = clock_timestamp()
         where thread_id = %(thread_id)s and owner = %(owner)s
        returning {_COLUMNS}
        """,
        {"thread_id": thread_id, "owner": owner, "metadata": Jsonb(metadata)},
    )


async def delete(database: Database, owner: str, thread_id: UUID) -> bool:
    """Delete the thread with all that belongs to it, in one transaction; False if the owner has no such thread."""
    params = {"thread_id": thread_id, "owner": owner}
    answers = await database.pipeline(*((statement, params) for statement in _DELETE))
    return bool(answers[-1])


async def copy(database: Database, owner: str, thread_id: UUID, target: UUID) -> bool:
    """Copy the thread and its checkpoints, without its runs; False if the owner has no such thread."""
    row = await database.fetch_one(_COPY, {"thread_id": thread_id, "owner": owner, "target": target})
    return row is not None


def _filter(owner: str, ids: Sequence[UUID], query: ThreadFilter) -> dict[str, Any]:
    return {
        "owner": owner,
        "ids": list(ids) or None,
        "metadata": Jsonb(query.metadata) if query.metadata else None,
        "values": Jsonb(query.values) if query.values else None,
        "status": query.status,
    }
