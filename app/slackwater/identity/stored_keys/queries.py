"""The table of keys."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from slackwater.identity.audit.actor import Actor, AuditAction
from slackwater.identity.audit.queries import audited
from slackwater.postgres.pool import Database, Row

_COLUMNS = "key_id, owner, prefix, scopes, note, created_at, expires_at, revoked_at, last_used_at"

_VALID = "revoked_at is null and (expires_at is null or expires_at > clock_timestamp())"

_CREATE = f"""
with made as (
insert into slackwater.api_keys (key_id, owner, prefix, sha256, scopes, note, expires_at)
values (%(key_id)s, %(owner)s, %(prefix)s, %(sha256)s, %(scopes)s, %(note)s,
  clock_timestamp() + %(seconds)s::float * interval '1 second')
returning {_COLUMNS}), {audited("made", AuditAction.KEY_CREATED, "key_id")}
select * from made"""

_LIST = f"""
select {_COLUMNS} from slackwater.api_keys
where %(owner)s::text is null or owner = %(owner)s
order by created_at desc, key_id desc"""

_REVOKE = f"""
with revoked as (
update slackwater.api_keys set revoked_at = coalesce(revoked_at, clock_timestamp()) where key_id = %(key_id)s
returning {_COLUMNS}), {
    audited("revoked", AuditAction.KEY_REVOKED, "key_id", where="x.revoked_at >= statement_timestamp()")
}
select * from revoked"""

# Whoever uses a key a thousand times a second does not write that a thousand times, nor waits for others who do.
_FIND = f"""
with found as (
  select key_id, owner, scopes, extract(epoch from expires_at)::float as expires, last_used_at
  from slackwater.api_keys where sha256 = %(sha256)s and {_VALID}
), used as (
  update slackwater.api_keys set last_used_at = clock_timestamp() where key_id in (
    select k.key_id from slackwater.api_keys k join found using (key_id)
    where k.last_used_at is null or k.last_used_at < clock_timestamp() - interval '1 minute'
    for update of k skip locked)
)
select key_id, owner, scopes, expires from found"""

_STILL_VALID = f"select key_id from slackwater.api_keys where key_id = any(%(key_ids)s) and {_VALID}"


async def create(
    database: Database,
    *,
    key_id: UUID,
    owner: str,
    prefix: str,
    sha256: bytes,
    scopes: Sequence[str],
    note: str | None,
    seconds: float | None,
    actor: Actor,
) -> Row:
    """Store a key that is valid for so many seconds, or until it is revoked."""
    parameters = {
        "key_id": key_id,
        "owner": owner,
        "prefix": prefix,
        "sha256": sha256,
        "scopes": list(scopes),
        "note": note,
        "seconds": seconds,
        **actor.parameters,
    }
    (row,) = await database.fetch(_CREATE, parameters)
    return row


async def list_(database: Database, owner: str | None) -> list[Row]:
    """All keys, or an owner's, the newest first."""
    return await database.fetch(_LIST, {"owner": owner})


async def revoke(database: Database, key_id: UUID, actor: Actor) -> Row | None:
    """Revoke a key, from the first time on; None if there is no such key."""
    return await database.fetch_one(_REVOKE, {"key_id": key_id, **actor.parameters})


async def find(database: Database, sha256: bytes) -> Row | None:
    """The key that is valid now: `key_id`, `owner`, `scopes`, `expires` (seconds since the epoch, or None)."""
    return await database.fetch_one(_FIND, {"sha256": sha256})


async def still_valid(database: Database, key_ids: Collection[UUID]) -> set[UUID]:
    """Those of the keys that are valid now."""
    rows = await database.fetch(_STILL_VALID, {"key_ids": list(key_ids)})
    return {row["key_id"] for row in rows}
