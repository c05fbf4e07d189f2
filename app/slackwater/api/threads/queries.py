"""The SQL of threads. Each statement holds the owner; what another owns is not there.

What deletes threads, or their past, is `slackwater.runtime.queue.pruning`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from slackwater.api.threads.models import SortBy, ThreadFilter, ThreadSearch, parse_path
from slackwater.identity.custom.queries import OWN, Visible
from slackwater.postgres.pool import Database, Row

if TYPE_CHECKING:
    from slackwater.runtime.execution.new_thread import NewThreadSaver

Lifetime = tuple[float | None, str | None]
"""Minutes without anything happening, and what is done then; neither: for ever."""

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

_GATEWAY_NAMES: dict[str, LiteralString] = {
    **_NAMES,
    # The same as `slackwater.dialect.view.status_of`.
    "status": """case
      when status = 'interrupted' and coalesce(interrupts, '{}') = '{}' then 'idle'
      when status = 'idle' and "values" #>> '{messages,-1,additional_kwargs,deerflow_error_fallback}' = 'true' then 'error'
      else status end""",
}

_NUMBERS: tuple[LiteralString, ...] = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")


def _matches(status: LiteralString) -> LiteralString:
    """The condition of a search; `status` is the expression of what its `status` means."""
    return (
        """
    not hidden
    and (%(ids)s::uuid[] is null or thread_id = any(%(ids)s))
    and (%(metadata)s::jsonb is null or metadata @> %(metadata)s)
    and (%(values)s::jsonb is null or "values" @> %(values)s)
    and (%(status)s::text is null or """
        + status
        + """ = %(status)s)
"""
    )


_FILTER: LiteralString = _matches("status")

# One statement, one snapshot: a run may be writing to the source, and stores a checkpoint with all its parts at once.
# Nobody else knows the target before it is committed, so nothing has to hold it.
_COPY: LiteralString = """
with source as (
  select thread_id, metadata, config, ttl_minutes, ttl_strategy from slackwater.threads
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
insert into slackwater.threads (thread_id, owner, metadata, config, ttl_minutes, ttl_strategy, status, state_updated_at)
select %(target)s, %(target_owner)s, metadata, config, ttl_minutes, ttl_strategy, 'busy', now() from source
returning thread_id
"""
# Busy without a run: what it shows is still to be read from its checkpoints, by us or else by the next sweep.


_STORAGE: LiteralString = """
select c.checkpoints, c.checkpoint_bytes, w.writes, w.write_bytes
  from slackwater.threads t,
       lateral (select count(*) as checkpoints,
                       coalesce(sum(pg_column_size(checkpoint) + pg_column_size(metadata)), 0) as checkpoint_bytes
                  from checkpoints where thread_id = t.thread_id::text) c,
       lateral (select count(*) as writes, coalesce(sum(octet_length(blob)), 0) as write_bytes
                  from checkpoint_writes where thread_id = t.thread_id::text) w
 where t.thread_id = %(thread_id)s and t.owner = %(owner)s
"""

_CHANNELS: LiteralString = """
select b.channel, count(*) as count, coalesce(sum(octet_length(b.blob)), 0) as bytes
  from checkpoint_blobs b join slackwater.threads t on b.thread_id = t.thread_id::text
 where t.thread_id = %(thread_id)s and t.owner = %(owner)s
 group by b.channel order by b.channel
"""


async def insert(
    database: Database, owner: str, thread_id: UUID, metadata: dict[str, Any], ttl: Lifetime
) -> Row | None:
    """The new thread, or None if its id is taken, by whomever."""
    return await database.fetch_one(
        f"""
        insert into slackwater.threads (thread_id, owner, metadata, ttl_minutes, ttl_strategy, state_updated_at)
        values (%(thread_id)s, %(owner)s, %(metadata)s, %(minutes)s, %(strategy)s, now())
        on conflict (thread_id) do nothing
        returning {_COLUMNS}
        """,
        {
            "thread_id": thread_id,
            "owner": owner,
            "metadata": Jsonb(metadata),
            "minutes": ttl[0],
            "strategy": ttl[1],
        },
    )


async def insert_draft(
    draft: NewThreadSaver,
    owner: str,
    thread_id: UUID,
    metadata: dict[str, Any],
    ttl: Lifetime,
    *,
    status: str,
    values: bytes | None,
    interrupts: Mapping[str, Any],
) -> Row | None:
    """The new thread with the draft's checkpoints, or None if its id is taken, by whomever."""
    row = await draft.store(
        {
            "thread_id": thread_id,
            "owner": owner,
            "metadata": Jsonb(metadata),
            "ttl_minutes": ttl[0],
            "ttl_strategy": ttl[1],
            "status": status,
            "values": values.decode() if values is not None else None,
            "interrupts": Jsonb(interrupts),
        }
    )
    return {name: row[name] for name in (*_NAMES, "error")} if row else None


async def find(database: Database, owner: str, thread_id: UUID) -> Row | None:
    return await database.fetch_one(
        f"select {_COLUMNS} from slackwater.threads where thread_id = %s and owner = %s",
        [thread_id, owner],
    )


async def find_ttl(database: Database, owner: str, thread_id: UUID) -> Row | None:
    """The thread's `strategy`, `ttl_minutes` and `expires_at`; the last ones are null if it lives for ever."""
    return await database.fetch_one(
        """
        select ttl_strategy as strategy, ttl_minutes, updated_at + ttl_minutes * interval '1 minute' as expires_at
          from slackwater.threads where thread_id = %s and owner = %s
        """,
        [thread_id, owner],
    )


async def storage(database: Database, owner: str, thread_id: UUID) -> tuple[Row | None, list[Row]]:
    """Numbers and bytes of checkpoints and pending writes, and those of each channel; None if there is no such thread."""
    params = {"thread_id": thread_id, "owner": owner}
    sums, channels = await database.pipeline((_STORAGE, params), (_CHANNELS, params))
    return (sums[0] if sums else None), channels


async def find_graph(database: Database, owner: str, thread_id: UUID) -> Row | None:
    """What must be known of a thread to open its graph: `metadata` and `config`."""
    return await database.fetch_one(
        "select metadata, config from slackwater.threads where thread_id = %s and owner = %s",
        [thread_id, owner],
    )


async def search(
    database: Database,
    owner: str,
    ids: Sequence[UUID],
    query: ThreadSearch,
    seen: Visible = OWN,
    *,
    for_gateway: bool = False,
) -> list[Row]:
    """One page and, where there is more, the first row of the next one; only the selected columns.

    `for_gateway`: `status` is that which the gateway shows.
    """
    names = _GATEWAY_NAMES if for_gateway else _NAMES
    columns = (
        ", ".join(f"{names[name]} as {_NAMES[name]}" for name in query.select) if query.select else _COLUMNS
    )
    extracted, paths = _extracted(query)
    sort_by: SortBy = query.sort_by or "updated_at"
    direction: LiteralString = "asc" if query.sort_order == "asc" else "desc"
    # Where nothing can be null, `nulls last` would only keep the index from being used.
    nulls: LiteralString = "nulls last" if sort_by == "state_updated_at" else ""
    return await database.fetch_page(
        f"select {columns}{extracted} from slackwater.threads "
        f"where {seen.condition} and {_matches(names['status'])} "
        f"order by {names[sort_by]} {direction} {nulls}, thread_id {direction} "
        "limit %(limit)s offset %(offset)s",
        {
            **_filter(owner, ids, query),
            **seen.parameters,
            **paths,
            "limit": query.limit + 1,
            "offset": query.offset,
        },
        query.limit,
    )


async def count(
    database: Database, owner: str, ids: Sequence[UUID], query: ThreadFilter, seen: Visible = OWN
) -> int:
    row = await database.fetch_one(
        f"select count(*) as number from slackwater.threads where {seen.condition} and {_FILTER}",
        {**_filter(owner, ids, query), **seen.parameters},
    )
    return int(row["number"]) if row else 0


async def patch(
    database: Database, owner: str, thread_id: UUID, metadata: dict[str, Any], ttl: Lifetime | None
) -> Row | None:
    """The thread with `metadata` merged over its own, or None if the owner has no such thread. A `ttl` of None stays."""
    return await database.fetch_one(
        f"""
        update slackwater.threads set metadata = metadata || %(metadata)s, updated_at = clock_timestamp(),
               ttl_minutes = case when %(set_ttl)s then %(minutes)s else ttl_minutes end,
               ttl_strategy = case when %(set_ttl)s then %(strategy)s else ttl_strategy end
         where thread_id = %(thread_id)s and owner = %(owner)s
        returning {_COLUMNS}
        """,
        {
            "thread_id": thread_id,
            "owner": owner,
            "metadata": Jsonb(metadata),
            "set_ttl": ttl is not None,
            "minutes": ttl[0] if ttl else None,
            "strategy": ttl[1] if ttl else None,
        },
    )


async def copy(database: Database, owner: str, thread_id: UUID, target: UUID, target_owner: str) -> bool:
    """Copy the thread and its checkpoints, without its runs; False if the owner has no such thread."""
    row = await database.fetch_one(
        _COPY, {"thread_id": thread_id, "owner": owner, "target": target, "target_owner": target_owner}
    )
    return row is not None


def _extracted(query: ThreadSearch) -> tuple[LiteralString, dict[str, Any]]:
    """The column `extracted` with its parameters, if something is to be extracted."""
    if not query.extract:
        return "", {}
    parts: list[LiteralString] = []
    params: dict[str, Any] = {}
    for number, (alias, text) in zip(_NUMBERS, query.extract.items(), strict=False):
        root, path = parse_path(text)
        column = _NAMES[root]
        params["alias" + number] = alias
        params["path" + number] = path
        parts.append(
            "%(alias" + number + ")s::text, case when %(path" + number + ")s::text[] is not null"
            " then " + column + " #> %(path" + number + ")s::text[] end"
        )
    return ", jsonb_build_object(" + ", ".join(parts) + ") as extracted", params


def _filter(owner: str, ids: Sequence[UUID], query: ThreadFilter) -> dict[str, Any]:
    return {
        "owner": owner,
        "ids": list(ids) or None,
        "metadata": Jsonb(query.metadata) if query.metadata else None,
        "values": Jsonb(query.values) if query.values else None,
        "status": query.status,
    }
