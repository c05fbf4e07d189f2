"""The tables of limits, and of the buckets that requests are taken from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import LiteralString
from uuid import UUID

from slackwater.postgres.pool import Database, Row

NAMES: tuple[LiteralString, ...] = (
    "requests_per_minute",
    "running",
    "pending",
    "streams",
    "crons",
    "file_bytes",
)
"""What can be limited: the columns of the table."""

_COLUMNS: LiteralString = f"owner, {', '.join(NAMES)}, changed_at"

_SET: LiteralString = f"""
insert into slackwater.limits as l (owner, {", ".join(NAMES)})
values (%(owner)s, {", ".join(f"%({name})s" for name in NAMES)})
on conflict (owner) do update set changed_at = clock_timestamp(),
  {", ".join(f"{name} = coalesce(excluded.{name}, l.{name})" for name in NAMES)}
returning {_COLUMNS}"""

_LIST: LiteralString = f"""
select {_COLUMNS} from slackwater.limits where %(owner)s::text is null or owner = %(owner)s order by owner"""

_UNSET: LiteralString = f"""
update slackwater.limits set changed_at = clock_timestamp(),
  {", ".join(f"{name} = case when '{name}' = any(%(names)s) then null else {name} end" for name in NAMES)}
where owner = %(owner)s returning {_COLUMNS}"""

_FORGET: LiteralString = f"""
delete from slackwater.limits where owner = %(owner)s and num_nonnulls({", ".join(NAMES)}) = 0"""

# A bucket is full with the requests of a minute, and a moment says all of it: each request moves the one at which it is full
# again. Decided on the newest version of the row, which the conflict locks. Microseconds are whole, so that a full bucket has
# exactly its requests. A moment to which no request can have led is from before the database's clock was set back.
_BUCKET: LiteralString = """
with quota as materialized (
  select clock_timestamp() as now, coalesce(
    (select requests_per_minute from slackwater.limits where owner = %(owner)s), %(default)s)::int as per_minute
), one as materialized (
  select now, 60000000 / per_minute * interval '1 microsecond' as length, now + interval '1 minute' as latest,
    now + interval '90 seconds' as impossible from quota where per_minute > 0
), taken as (
  insert into slackwater.request_buckets as b (owner, full_at) select %(owner)s, now + length from one
  on conflict (owner) do update set full_at = (
    select case when b.full_at between now and impossible then b.full_at else now end + length from one)
  where (select b.full_at + length <= latest or b.full_at > impossible from one)
  returning full_at
)"""

_ANSWER: LiteralString = """
q.per_minute, t.full_at is not null as taken,
  (extract(epoch from coalesce(t.full_at, b.full_at, q.now) - q.now) * 1000000)::bigint as full_in"""

_JOINED: LiteralString = """
from quota q left join taken t on true left join slackwater.request_buckets b on b.owner = %(owner)s"""

_TAKE: LiteralString = f"{_BUCKET} select {_ANSWER} {_JOINED}"

# As with buckets, decided on the newest version of the row. Those whose process says no more that they are open do not count.
_TAKE_AND_OPEN: LiteralString = f"""
{_BUCKET}, places as materialized (
  select coalesce((select streams from slackwater.limits where owner = %(owner)s), %(default_streams)s)::int as most,
    extract(epoch from now)::float as now, (not exists (select from one) or exists (select from taken)) as may
  from quota
), opened as (
  insert into slackwater.open_streams as s (owner, streams)
  select %(owner)s, jsonb_build_object(%(stream)s::text, now + %(seconds)s::float) from places where most > 0 and may
  on conflict (owner) do update set changed_at = clock_timestamp(), streams = excluded.streams || (
    select coalesce(jsonb_object_agg(key, value), '{{}}') from jsonb_each(s.streams - %(ended)s::text[])
    where value::float > (select now from places))
  where (select count(*) from jsonb_each(s.streams - %(ended)s::text[]) where value::float > (select now from places))
    < (select most from places)
  returning owner
)
select {_ANSWER}, p.most as streams, o.owner is not null as opened
{_JOINED} cross join places p left join opened o on true"""

# Whoever changes the same rows does so in the same order.
_HOLD = """
with said as materialized (
  select owner, array_agg(stream) filter (where not open) as ended,
    coalesce(jsonb_object_agg(stream, extract(epoch from clock_timestamp())::float + %(seconds)s::float) filter (where open), '{}') as open
  from unnest(%(owners)s::text[], %(streams)s::text[], %(open)s::boolean[]) as u(owner, stream, open) group by owner
), locked as materialized (
  select s.owner from slackwater.open_streams s join said using (owner) order by s.owner for update of s
)
update slackwater.open_streams s set changed_at = clock_timestamp(),
  streams = (s.streams - coalesce(said.ended, '{}')) || said.open
from said join locked using (owner) where s.owner = said.owner"""

_FORGET_STREAMS = """
delete from slackwater.open_streams where ctid = any(array(
  select ctid from slackwater.open_streams where changed_at < now() - interval '1 hour' limit %(limit)s))"""

# A bucket that is full is as good as none.
_TRIM = """
delete from slackwater.request_buckets where ctid = any(array(
  select ctid from slackwater.request_buckets where full_at < now() - interval '1 hour' limit %(limit)s))"""


async def set_(database: Database, owner: str, values: Mapping[str, int]) -> Row:
    """Change these limits of an owner, and leave the others."""
    parameters = {"owner": owner, **dict.fromkeys(NAMES), **values}
    (row,) = await database.fetch(_SET, parameters)
    return row


async def list_(database: Database, owner: str | None) -> list[Row]:
    """The owners who have limits of their own, or one."""
    return await database.fetch(_LIST, {"owner": owner})


async def unset(database: Database, owner: str, names: Collection[str]) -> Row | None:
    """Take these limits from an owner; None if they have none."""
    parameters = {"owner": owner, "names": list(names)}
    found, _ = await database.pipeline((_UNSET, parameters), (_FORGET, parameters))
    return found[0] if found else None


async def take(database: Database, owner: str, default: int) -> Row:
    """One request of the owner: `per_minute` (0: no limit), whether it is `taken`, `full_in` (microseconds)."""
    ((row,),) = await database.write((_TAKE, {"owner": owner, "default": default}))
    return row


async def take_and_open(
    database: Database,
    owner: str,
    default: int,
    default_streams: int,
    *,
    stream: UUID,
    ended: Collection[UUID],
    seconds: float,
) -> Row:
    """As `take`, and a stream with it, open for so many seconds: also `streams` (0: no limit), and whether it is `opened`.

    `ended`: those of the owner of which the database has not been told yet.
    """
    parameters = {
        "owner": owner,
        "default": default,
        "default_streams": default_streams,
        "stream": str(stream),
        "ended": [str(each) for each in ended],
        "seconds": seconds,
    }
    ((row,),) = await database.write((_TAKE_AND_OPEN, parameters))
    return row


async def hold(
    database: Database, open_: Mapping[UUID, str], ended: Mapping[UUID, str], seconds: float
) -> None:
    """These streams, by their owners, are open for so many seconds more; those have ended."""
    owners = [*open_.values(), *ended.values()]
    streams = [str(each) for each in (*open_, *ended)]
    flags = [True] * len(open_) + [False] * len(ended)
    parameters = {"owners": owners, "streams": streams, "open": flags, "seconds": seconds}
    await database.execute(_HOLD, parameters)


async def trim(database: Database, limit: int) -> int:
    """Delete up to so many buckets that have been full for an hour, and rows of streams as old; the larger number of the two."""
    parameters = {"limit": limit}
    buckets = await database.execute(_TRIM, parameters)
    return max(buckets, await database.execute(_FORGET_STREAMS, parameters))
