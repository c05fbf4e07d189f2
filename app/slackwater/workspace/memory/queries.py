"""The memory in SQL: an item of its owner's store, which is written by compare-and-set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, LiteralString, NamedTuple

from psycopg.types.json import Jsonb

from slackwater.kit.labels import label_of
from slackwater.postgres.pool import Database

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
