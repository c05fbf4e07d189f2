"""The table of what was audited, and the part by which other statements add to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from slackwater.identity.audit.actor import COMMAND, AuditAction

if TYPE_CHECKING:
    from slackwater.postgres.pool import Database, Row


def audited(
    rows: str,
    action: AuditAction,
    subject: str,
    *,
    actor: str = "%(actor)s",
    detail: str = "null",
    address: str = "null",
    where: str = "true",
) -> str:
    """The CTE `audited`: tells of each row `x` of the CTE `rows`, which has `owner`, and its id in the column `subject`.

    Its parameters are `Actor.parameters`.
    """
    return f"""audited as (
  insert into slackwater.audit (action, actor, via, key_id, owner, subject, address, detail)
  select '{action}', {actor}, %(actor_via)s, %(actor_key)s::uuid, x.owner, x.{subject}::text, {address}, {detail}
  from {rows} x where %(actor_via)s::text is not null and {where})"""


class RefusalKey(NamedTuple):
    """The refusals that one row counts."""

    minute: int
    """Since the epoch."""
    status: int
    address: str
    actor: str | None
    key_id: UUID | None


# Whoever counts in the same rows does so in the same order.
_COUNT = f"""
insert into slackwater.audit (at, action, actor, via, key_id, owner, address, status, count)
select to_timestamp(r.minute * 60), '{AuditAction.REQUEST_REFUSED}', r.actor, 'api', r.key_id, r.actor, r.address, r.status, r.count
from unnest(%(minutes)s::bigint[], %(statuses)s::int[], %(addresses)s::text[], %(actors)s::text[], %(key_ids)s::uuid[],
  %(counts)s::bigint[]) as r(minute, status, address, actor, key_id, count)
order by 1, r.status, r.address, r.actor, r.key_id
on conflict (at, status, address, actor, key_id) where action = '{AuditAction.REQUEST_REFUSED}'
do update set count = audit.count + excluded.count"""

_COMMANDED = """
insert into slackwater.audit (action, via, owner, subject, detail)
values (%(action)s, %(via)s, %(owner)s, %(subject)s, %(detail)s)"""

_LIST = """
select audit_id, at, action, actor, via, key_id, owner, subject, address, status, detail, count from slackwater.audit
where (%(owner)s::text is null or owner = %(owner)s) and (%(actor)s::text is null or actor = %(actor)s)
  and (%(actions)s::text[] is null or action = any(%(actions)s))
  and (%(days)s::float is null or at > clock_timestamp() - %(days)s * interval '1 day')
order by at desc, audit_id desc limit %(limit)s"""

_TRIM = """
delete from slackwater.audit where ctid = any(array(
  select ctid from slackwater.audit where at < clock_timestamp() - %(days)s::float * interval '1 day'
  order by at, audit_id limit %(limit)s))"""


async def count(database: Database, refused: Mapping[RefusalKey, int]) -> None:
    """Add to the counts of refusals."""
    columns = list(zip(*refused, strict=True))
    names = ("minutes", "statuses", "addresses", "actors", "key_ids")
    parameters = {name: list(column) for name, column in zip(names, columns, strict=True)}
    await database.execute(_COUNT, {**parameters, "counts": list(refused.values())})


async def add_command(
    database: Database,
    action: AuditAction,
    subject: str | None,
    detail: str | None = None,
    *,
    owner: str | None = None,
) -> None:
    """A row of its own, of what a command has done in more than one transaction, or without any."""
    parameters = {
        "action": action.value,
        "via": COMMAND.via,
        "owner": owner,
        "subject": subject,
        "detail": detail,
    }
    await database.execute(_COMMANDED, parameters)


async def list_(
    database: Database,
    *,
    owner: str | None,
    actor: str | None,
    actions: Sequence[AuditAction],
    days: float | None,
    limit: int,
) -> list[Row]:
    """What was audited, the newest first."""
    parameters: dict[str, Any] = {
        "owner": owner,
        "actor": actor,
        "actions": [action.value for action in actions] or None,
        "days": days,
        "limit": limit,
    }
    return await database.fetch(_LIST, parameters)


async def trim(database: Database, days: float, limit: int) -> int:
    """Delete so many rows that are older; how many there were."""
    return await database.execute(_TRIM, {"days": days, "limit": limit})
