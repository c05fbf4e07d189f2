"""The memory in SQL: an item of its owner's store, which is written by compare-and-set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

from psycopg.types.json import Jsonb

from slackwater.kit.labels import label_of
from slackwater.postgres.pool import Database, Row
from slackwater.runtime.fenced.statements import OWNED
from slackwater.runtime.queue.lease import Acknowledged, Lease

NAMESPACE = ("memory",)
KEY = "document"
"""Where graphs of the owner find it: `store.get(("memory",), "document")`."""

# Of what it says, as graphs may put something there that knows of no version.
_VERSION: LiteralString = """encode(sha256(convert_to(s.value::text, 'UTF8')), 'hex')"""
_HERE: LiteralString = "s.prefix = %(prefix)s and s.key = %(key)s"
_GONE: LiteralString = "s.expires_at <= clock_timestamp()"

_READ = f"select s.value, {_VERSION} as version from store s where {_HERE} and ({_GONE}) is not true"

_WRITE = f"""
with guard as ({{guard}}
), changed as (
  update store s set value = %(value)s, updated_at = clock_timestamp()
  where {_HERE} and ({_GONE}) is not true and {_VERSION} = %(version)s and exists (select from guard)
  returning 1
), added as (
  insert into store as s (prefix, key, value, created_at, updated_at)
  select %(prefix)s, %(key)s, %(value)s, clock_timestamp(), clock_timestamp() from guard where %(version)s::text is null
  on conflict (prefix, key) do update set value = excluded.value, created_at = clock_timestamp(),
    updated_at = clock_timestamp(), expires_at = null, ttl_minutes = null where {_GONE}
  returning 1
), done as (select 1 from changed union all select 1 from added
){{also}}
select (select count(*) from guard) as allowed, (select count(*) from done) as done"""


class KeptMemory(NamedTuple):
    """What is kept, and the version that whoever changes it has to name; both None if nothing is."""

    value: Any
    version: str | None


class Written(NamedTuple):
    """What has become of a write."""

    allowed: bool
    """Whether the guard let it through."""
    done: bool
    """Whether it was written: if it was allowed and not done, somebody else has changed the memory."""


class Guard(NamedTuple):
    """What has to be true in the statement that writes, and what happens with it."""

    select: str = "select 1"
    """Finds one row if the memory may be written."""
    also: str = ""
    """More CTEs, which do something where `done` has a row."""
    parameters: Mapping[str, Any] = {}


NO_GUARD = Guard()


async def read(database: Database, owner: str) -> KeptMemory:
    """The owner's memory."""
    row = await database.fetch_one(_READ, _place(owner))
    return KeptMemory(row["value"], row["version"]) if row else KeptMemory(None, None)


async def write(
    database: Database, owner: str, value: Mapping[str, Any], version: str | None, guard: Guard = NO_GUARD
) -> Written:
    """Write it, if it still is of that version; None: if there is none. One statement."""
    row = await database.fetch_one(
        _WRITE.format(guard=guard.select, also=guard.also),
        {**guard.parameters, **_place(owner), "value": Jsonb(value), "version": version},
    )
    assert row is not None
    return Written(bool(row["allowed"]), bool(row["done"]))


def _place(owner: str) -> dict[str, Any]:
    return {"prefix": ".".join((label_of(owner), *NAMESPACE)), "key": KEY}


# Updates that are due


_MINE = "u.owner = %(owner)s and u.thread_id = %(thread_id)s and u.fence = %(fence)s and u.claimed_until is not null"

_PUT_UPDATE = f"""
with owned as ({OWNED})
insert into slackwater.memory_updates as u (owner, thread_id, messages, due_at)
select %(owner)s, %(thread_id)s, %(messages)s, clock_timestamp() + make_interval(secs => %(seconds)s) from owned
on conflict (owner, thread_id) do update set messages = excluded.messages, fence = u.fence + 1, claimed_until = null,
  attempts = 0, trouble = null,
  created_at = case when u.attempts = 0 then u.created_at else excluded.created_at end,
  due_at = case when u.attempts = 0
    then least(excluded.due_at, u.created_at + make_interval(secs => %(longest)s)) else excluded.due_at end"""

_IS_DUE = """q.due_at <= statement_timestamp() and (q.claimed_until is null or q.claimed_until < clock_timestamp())"""

# One of each owner, as far as can be seen: two that are made at the same time are made of the same memory.
_CLAIM_UPDATES = f"""
with candidate as (
  select distinct on (q.owner) q.owner, q.thread_id, q.due_at from slackwater.memory_updates q
  where {_IS_DUE} and not exists (
    select from slackwater.memory_updates o where o.owner = q.owner and o.claimed_until >= clock_timestamp())
  order by q.owner, q.due_at
), ordered as (
  select owner, thread_id from candidate order by due_at
), due as (
  select o.owner, o.thread_id from ordered o cross join lateral (
    select 1 from slackwater.memory_updates q where q.owner = o.owner and q.thread_id = o.thread_id and {_IS_DUE}
    for update skip locked) q limit %(limit)s
)
update slackwater.memory_updates u set fence = u.fence + 1, attempts = u.attempts + 1,
  claimed_until = clock_timestamp() + make_interval(secs => %(seconds)s)
from due d where u.owner = d.owner and u.thread_id = d.thread_id
returning u.owner, u.thread_id, u.messages, u.attempts, u.fence, u.trouble"""

_PUT_OFF_UPDATE = f"""
update slackwater.memory_updates u set claimed_until = null, trouble = %(trouble)s,
  due_at = clock_timestamp() + make_interval(secs => %(seconds)s)
where {_MINE}"""

_GIVE_BACK_UPDATE = f"""
update slackwater.memory_updates u set claimed_until = null, attempts = attempts - 1
where {_MINE}"""

_END_UPDATE = f"delete from slackwater.memory_updates u where {_MINE}"

KEPT_DAYS = 7
"""How long an update is kept that nobody claims, as its project remembers nothing any more."""

_TRIM_UPDATES = f"""
delete from slackwater.memory_updates u where (u.owner, u.thread_id) in (
  select q.owner, q.thread_id from slackwater.memory_updates q
  where q.created_at < statement_timestamp() - interval '{KEPT_DAYS} days' limit 1000 for update skip locked)"""


def under(lease: Lease) -> Guard:
    """The memory may be written as long as a run goes on here."""
    return Guard(select=OWNED, parameters=lease.key)


def ending(update: Row) -> Guard:
    """The memory may be written as long as an update is ours, and that ends the update."""
    return Guard(
        select=f"select 1 from slackwater.memory_updates u where {_MINE} for update",
        also=f", ended as (delete from slackwater.memory_updates u using done where {_MINE})",
        parameters=_key(update),
    )


_AS_WRITTEN: LiteralString = """(
  select s.value from store s where s.prefix = %(memory_prefix)s and s.key = %(memory_key)s)
  is not distinct from %(memory_value)s::jsonb"""
_WAITS: LiteralString = """exists (
  select from slackwater.memory_updates u
  where u.owner = %(update_owner)s and u.thread_id = %(update_thread)s and u.messages = %(update_messages)s)"""


def written(owner: str, value: Mapping[str, Any]) -> Acknowledged:
    """What the database shows once it has this memory. If somebody has written another since, it looks forgotten."""
    parameters = {**_place(owner), "value": Jsonb(value)}
    return Acknowledged(_AS_WRITTEN, {f"memory_{name}": given for name, given in parameters.items()})


def waits(owner: str, thread_id: UUID, said: Sequence[Mapping[str, str]]) -> Acknowledged:
    """What the database shows once it has this update. If it has been made since, it looks forgotten."""
    key = {"update_owner": owner, "update_thread": thread_id, "update_messages": Jsonb(list(said))}
    return Acknowledged(_WAITS, key)


async def put_update(
    database: Database,
    lease: Lease,
    owner: str,
    thread_id: UUID,
    said: Sequence[Mapping[str, str]],
    *,
    seconds: float,
    longest: float,
) -> bool:
    """Let it be due in so many seconds, in place of what was said before; `longest` after the first time at the latest.

    False if the lease is gone: nothing is stored then.
    """
    about = {"owner": owner, "thread_id": thread_id, "messages": Jsonb(list(said))}
    return bool(
        await database.execute(_PUT_UPDATE, {**lease.key, **about, "seconds": seconds, "longest": longest})
    )


async def claim_updates(database: Database, *, limit: int, seconds: float) -> list[Row]:
    """Take up to `limit` updates that are due, one of each owner, for so many seconds."""
    return await database.fetch(_CLAIM_UPDATES, {"limit": limit, "seconds": seconds})


async def put_off_update(database: Database, update: Row, *, seconds: float, trouble: str) -> None:
    """Due again in so many seconds."""
    await database.execute(_PUT_OFF_UPDATE, {**_key(update), "seconds": seconds, "trouble": trouble})


async def give_back_update(database: Database, update: Row) -> None:
    """Due at once, for anybody: the attempt was broken off, and does not count."""
    await database.execute(_GIVE_BACK_UPDATE, _key(update))


async def end_update(database: Database, update: Row) -> bool:
    """Never due again; whether it was ours to say so."""
    return bool(await database.execute(_END_UPDATE, _key(update)))


async def trim_updates(database: Database) -> None:
    """Forget what nobody has claimed for long."""
    await database.execute(_TRIM_UPDATES)


def _key(update: Row) -> dict[str, Any]:
    return {name: update[name] for name in ("owner", "thread_id", "fence")}
