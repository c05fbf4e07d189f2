"""The table of signing keys."""

from __future__ import annotations

from slackwater.identity.audit.actor import Actor, AuditAction
from slackwater.identity.audit.queries import audited
from slackwater.postgres.pool import Database, Row

_VALID = "valid_until is null or valid_until > clock_timestamp()"

_COLUMNS = "kid, sealed_by, created_at, signs_from, valid_until"

_LOAD = f"""
select kid, secret, sealed_by, extract(epoch from signs_from - clock_timestamp())::float as signs_in,
  extract(epoch from valid_until - clock_timestamp())::float as valid_for
from slackwater.signing_keys where {_VALID} order by signs_from"""

_CREATE = """
insert into slackwater.signing_keys (kid, secret, sealed_by, signs_from)
values (%(kid)s, %(secret)s, %(sealed_by)s, clock_timestamp())
on conflict do nothing"""

_LIST = f"""
select {_COLUMNS}, signs_from <= clock_timestamp() as signs from slackwater.signing_keys where {_VALID}
order by signs_from desc"""

# One after the other: whoever waited finds the key that was made meanwhile, and gives it its end.
_LOCK = "select pg_advisory_xact_lock(hashtextextended('slackwater.signing_keys', 0))"

_END = """
update slackwater.signing_keys
set valid_until = clock_timestamp() + (%(signs_in)s::float + %(overlap)s::float) * interval '1 second'
where valid_until is null"""

_END_NOW = "delete from slackwater.signing_keys"

_NEXT = f"""
with made as (
insert into slackwater.signing_keys (kid, secret, sealed_by, signs_from)
values (%(kid)s, %(secret)s, %(sealed_by)s, clock_timestamp() + %(signs_in)s::float * interval '1 second')
returning {_COLUMNS}, null::text as owner),
{audited("made", AuditAction.SIGNING_KEY_ROTATED, "kid", detail="%(detail)s::text")}
select {_COLUMNS} from made"""

_RESEAL = """
update slackwater.signing_keys set secret = %(secret)s, sealed_by = %(sealed_by)s
where kid = %(kid)s and secret = %(was)s"""

_TRIM = "delete from slackwater.signing_keys where valid_until <= clock_timestamp()"


async def load(database: Database) -> list[Row]:
    """The keys that are valid now, in the order in which they sign: `kid`, `secret`, `sealed_by`, `signs_in` and `valid_for`.

    The last two are seconds from now; `valid_for` of the newest key is None.
    """
    return await database.fetch(_LOAD)


async def create(database: Database, *, kid: str, secret: str, sealed_by: str | None) -> bool:
    """Store the first key, unless somebody else has."""
    return bool(await database.execute(_CREATE, {"kid": kid, "secret": secret, "sealed_by": sealed_by}))


async def list_(database: Database) -> list[Row]:
    """The keys that are valid now, without their secrets, the newest first."""
    return await database.fetch(_LIST)


async def rotate(
    database: Database,
    *,
    kid: str,
    secret: str,
    sealed_by: str | None,
    signs_in: float,
    overlap: float | None,
    actor: Actor,
) -> Row:
    """Store the next key, which signs in so many seconds. The last one is valid for `overlap` seconds more, or, if that is None,
    no more, and nor are those before it."""
    parameters = {
        "kid": kid,
        "secret": secret,
        "sealed_by": sealed_by,
        "signs_in": signs_in,
        "overlap": overlap,
        "detail": "now" if overlap is None else None,
        **actor.parameters,
    }
    end = (_END_NOW, None) if overlap is None else (_END, parameters)
    *_, (row,) = await database.pipeline((_LOCK, None), end, (_NEXT, parameters))
    return row


async def reseal(database: Database, *, kid: str, was: str, secret: str, sealed_by: str | None) -> bool:
    """Store the same secret in another way, unless somebody else has."""
    parameters = {"kid": kid, "was": was, "secret": secret, "sealed_by": sealed_by}
    return bool(await database.execute(_RESEAL, parameters))


async def trim(database: Database) -> int:
    """Delete the keys that are valid no more; how many there were."""
    return await database.execute(_TRIM)
