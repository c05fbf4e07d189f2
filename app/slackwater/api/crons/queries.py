"""The SQL of crons. Each statement of a request holds the owner; what another owns is not there.

Lock order, as everywhere: the thread's row first, then those of its crons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, LiteralString
from uuid import UUID

from psycopg.errors import CheckViolation, ForeignKeyViolation
from psycopg.types.json import Jsonb

from slackwater.errors import TooManyCrons
from slackwater.identity.audit.actor import NOBODY, Actor, AuditAction
from slackwater.identity.audit.queries import audited
from slackwater.identity.custom.queries import OWN, Visible
from slackwater.identity.principal import SYSTEM_OWNER
from slackwater.postgres import shares
from slackwater.postgres.pool import Database, Row
from slackwater.postgres.shares import Shares
from slackwater.runtime.queue.limits import limit_of

if TYPE_CHECKING:
    from slackwater.api.crons.models import CronFilter, CronSearch, SortBy

_NAMES: LiteralString = """
    cron_id, assistant_id, thread_id, owner, end_time, schedule, timezone, payload, next_run_date, metadata,
    on_run_completed, enabled, created_at, updated_at"""

_COLUMNS: LiteralString = f"{_NAMES}, revision, auth_user"

_FILTER: LiteralString = """
    (%(assistant_id)s::uuid is null or assistant_id = %(assistant_id)s)
    and (%(thread_id)s::uuid is null or thread_id = %(thread_id)s)
    and metadata @> %(metadata)s"""

_ORDER: dict[SortBy, LiteralString] = {
    "cron_id": "cron_id",
    "assistant_id": "assistant_id",
    "thread_id": "thread_id",
    "created_at": "created_at",
    "updated_at": "updated_at",
    "next_run_date": "next_run_date",
    "end_time": "end_time",
}

ABANDONED_SECONDS = 300
"""So long a cron whose graph is not served here is left to others: during a deployment they may know it."""

_IS_DUE: LiteralString = f"""q.enabled and q.next_run_date <= statement_timestamp() and exists (
    select 1 from slackwater.assistants a
     where a.assistant_id = q.assistant_id and a.owner in (q.owner, %(system)s)
       and (a.graph_id = any(%(graphs)s)
            or q.next_run_date < statement_timestamp() - interval '{ABANDONED_SECONDS} seconds'))"""

_DUE: LiteralString = f"""
with recursive {
    shares.candidates(
        table="slackwater.crons",
        key="cron_id",
        age="next_run_date",
        first="'-infinity'::timestamptz",
        waits="enabled",
        due=_IS_DUE,
    )
}
select c.*, a.graph_id, clock_timestamp() as now, {shares.LOOKED_UNTIL} as looked_until
  from candidate d join slackwater.crons c using (cron_id) join slackwater.assistants a using (assistant_id)
 order by d.share, d.turn nulls first, d.next_run_date limit %(limit)s"""

_ADVANCE: LiteralString = """
update slackwater.crons set next_run_date = %(next)s, revision = revision + 1
 where cron_id = %(cron_id)s and owner = %(owner)s and enabled and next_run_date = %(due)s and revision = %(revision)s
returning cron_id"""


_LIMIT = "crons_per_owner"

_REQUIRE_ROOM: LiteralString = f"""
select slackwater.require_room_for_cron(%(owner)s, m.most)
from (select {limit_of("crons", "%(owner)s", "%(most)s")} as most) m where m.most is not null"""

_INSERT: LiteralString = f"""
insert into slackwater.crons
       (cron_id, owner, assistant_id, thread_id, schedule, timezone, end_time, payload, metadata,
        on_run_completed, enabled, next_run_date, auth_user)
select %(cron_id)s, %(owner)s, a.assistant_id, %(thread_id)s, %(schedule)s, %(timezone)s, %(end_time)s,
       %(payload)s, %(metadata)s, %(on_run_completed)s, %(enabled)s, %(next_run_date)s, %(auth_user)s
  from slackwater.assistants a
 where a.assistant_id = %(assistant_id)s and a.owner in (%(owner)s, %(system)s)
   and (%(thread_id)s::uuid is null or exists (select 1 from slackwater.threads t
        where t.thread_id = %(thread_id)s and t.owner = %(thread_owner)s and not t.hidden))
returning {_COLUMNS}"""


async def insert(
    database: Database, row: Mapping[str, Any], thread_owner: str, most: int | None
) -> Row | None:
    """The new cron, or None if that owner has no such thread or there is no such assistant. Raises TooManyCrons.

    `most`: how many an owner may have who has no limit of their own; None is no limit.
    """
    parameters = {
        **row,
        "system": SYSTEM_OWNER,
        "payload": Jsonb(row["payload"]),
        "metadata": Jsonb(row["metadata"]),
        "auth_user": _user(row),
        "thread_owner": thread_owner,
        "most": most,
    }
    try:
        _, made = await database.pipeline((_REQUIRE_ROOM, parameters), (_INSERT, parameters))
    except ForeignKeyViolation:  # deleted in this moment
        return None
    except CheckViolation as problem:
        if problem.diag.constraint_name != _LIMIT:
            raise
        raise TooManyCrons from None
    return made[0] if made else None


async def find(database: Database, owner: str, cron_id: UUID, seen: Visible = OWN) -> Row | None:
    return await database.fetch_one(
        f"select {_COLUMNS} from slackwater.crons where cron_id = %(cron_id)s and {seen.condition}",
        {**seen.parameters, "cron_id": cron_id, "owner": owner},
    )


async def search(database: Database, owner: str, query: CronSearch, seen: Visible = OWN) -> list[Row]:
    """One page and, where there is more, the first row of the next one."""
    order = _ORDER[query.sort_by or "created_at"]
    direction: LiteralString = "asc" if query.sort_order == "asc" else "desc"
    return await database.fetch_page(
        f"select {_NAMES} from slackwater.crons where {seen.condition} and {_FILTER} "
        "and (%(enabled)s::boolean is null or enabled = %(enabled)s) "
        f"order by {order} {direction} nulls last, cron_id {direction} limit %(limit)s offset %(offset)s",
        {
            **_filter(owner, query, seen),
            "enabled": query.enabled,
            "limit": query.limit + 1,
            "offset": query.offset,
        },
        query.limit,
    )


async def count(database: Database, owner: str, query: CronFilter, seen: Visible = OWN) -> int:
    row = await database.fetch_one(
        f"select count(*) as number from slackwater.crons where {seen.condition} and {_FILTER}",
        _filter(owner, query, seen),
    )
    return int(row["number"]) if row else 0


async def update(database: Database, row: Mapping[str, Any]) -> Row | None:
    """Write what may change of `row`; None if it is not there, or not any more as it was read."""
    return await database.fetch_one(
        f"""
        update slackwater.crons
           set schedule = %(schedule)s, timezone = %(timezone)s, end_time = %(end_time)s, payload = %(payload)s,
               metadata = %(metadata)s, on_run_completed = %(on_run_completed)s, enabled = %(enabled)s,
               next_run_date = %(next_run_date)s, auth_user = %(auth_user)s, revision = revision + 1, updated_at = clock_timestamp()
         where cron_id = %(cron_id)s and owner = %(owner)s and revision = %(revision)s
        returning {_COLUMNS}
        """,
        {
            **row,
            "payload": Jsonb(row["payload"]),
            "metadata": Jsonb(row["metadata"]),
            "auth_user": _user(row),
        },
    )


async def delete(
    database: Database, owner: str, cron_id: UUID, seen: Visible = OWN, actor: Actor = NOBODY
) -> bool:
    """False if the owner has no such cron."""
    return bool(
        await database.execute(
            f"""with gone as (
                  delete from slackwater.crons where cron_id = %(cron_id)s and {seen.condition}
                  returning cron_id, owner
                ), {audited("gone", AuditAction.CRON_DELETED, "cron_id")}
                select 1 from gone""",
            {**seen.parameters, **actor.parameters, "cron_id": cron_id, "owner": owner},
        )
    )


async def due(database: Database, graphs: Sequence[str], limit: int, share: Shares) -> list[Row]:
    """What is due now, shared out per owner, and of each what has waited longest; with `graph_id`, and the database's time
    as `now`."""
    params = {"graphs": list(graphs), "system": SYSTEM_OWNER, "limit": limit, **share.parameters(())}
    rows = await database.fetch(_DUE, params)
    for row in rows:
        share.served(row["owner"])
        share.looked(row["looked_until"])
    return rows


def step(cron: Mapping[str, Any], following: datetime | None) -> tuple[str, dict[str, Any]]:
    """The statement that takes the cron from its due date to the following one, for whoever is the first.

    For all others, and once it was changed or deleted, it returns no row.
    """
    params = {name: cron[name] for name in ("cron_id", "owner", "revision")}
    return _ADVANCE, {**params, "due": cron["next_run_date"], "next": following}


async def advance(database: Database, cron: Mapping[str, Any], following: datetime | None) -> None:
    """Leave the due date without a run."""
    await database.execute(*step(cron, following))


def _user(row: Mapping[str, Any]) -> Jsonb | None:
    return Jsonb(row["auth_user"]) if row["auth_user"] is not None else None


def _filter(owner: str, query: CronFilter, seen: Visible) -> dict[str, Any]:
    return {
        **seen.parameters,
        "owner": owner,
        "assistant_id": query.assistant_id,
        "thread_id": query.thread_id,
        "metadata": Jsonb(query.metadata),
    }
