"""The tables of blobs and files."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from slackwater.blobs.blobs import STAGED_SECONDS
from slackwater.postgres.pool import Database, Row, Statement


@dataclass(frozen=True, slots=True)
class NewFile:
    """A staged blob that is to be a file."""

    path: str
    """Relative to the folder of the thread: `uploads/a.txt`."""
    blob: str
    """The key."""
    size: int
    sha256: str | None
    """In hex; None if nobody has read it."""
    made_from: str | None = None
    """The path of the document that this was converted from, and goes with."""


_COLUMNS = "path, blob, size, sha256, made_from, created_at, modified_at"

_STAGE = """
insert into slackwater.blobs (key, size, writable_until)
select key, size, clock_timestamp() + %(writable_seconds)s::float * interval '1 second'
from unnest(%(keys)s::text[], %(sizes)s::bigint[]) as u(key, size)
on conflict (key) do nothing"""
"""Nobody makes a key twice: one that is there has been staged by this statement, whose answer was lost."""

_DISCARD = """
update slackwater.blobs set state = 'abandoned', changed_at = clock_timestamp()
where key = any(%(keys)s::text[]) and state = 'staged'"""

_STAGED = "select key, size from slackwater.blobs where key = any(%(keys)s::text[]) and state = 'staged'"

LOCK_OWNER = """
select pg_advisory_xact_lock(hashtextextended('slackwater.files/' || %(owner)s, 0))"""
"""Two that save for one owner do so one after the other, so that both see what is stored. First in its transaction."""


def room(removed: str = "0") -> str:
    """The subquery `room`: how many bytes the owner may have at most (0: no limit), and would have with `wanted` and without the bytes of `removed`."""
    return f"""room as materialized (
  select m.most, case when m.most > 0 then  -- all files of an owner are counted only where they are limited
    (select coalesce(sum(size), 0) from slackwater.files where owner = %(owner)s)
    - (select coalesce(sum(f.size), 0) from slackwater.files f join wanted w on w.path = f.path
       where f.owner = %(owner)s and f.thread_id = %(thread_id)s)
    - {removed}
    + (select coalesce(sum(size), 0) from wanted) else 0 end as bytes
  from (select coalesce((select file_bytes from slackwater.limits where owner = %(owner)s), %(most)s)::bigint as most) m
)"""


SAVE = f"""
with wanted as materialized (
  select * from unnest(%(paths)s::text[], %(blobs)s::text[], %(sizes)s::bigint[], %(sha256s)s::text[], %(made_from)s::text[])
    as w(path, blob, size, sha256, made_from)
), ready as materialized (
  select b.key from slackwater.blobs b where b.key = any(%(blobs)s::text[]) and b.state = 'staged' for update
), {room()}, go as materialized (
  select from room where (most = 0 or bytes <= most) and (select count(*) from ready) = (select count(*) from wanted)
), raised as (
  update slackwater.blobs b set state = 'live', size = w.size, changed_at = clock_timestamp()
  from wanted w where b.key = w.blob and exists (select from go) returning b.key
), saved as (
  insert into slackwater.files as f (owner, thread_id, path, blob, size, sha256, made_from)
  select %(owner)s, %(thread_id)s, w.path, w.blob, w.size, w.sha256, w.made_from from wanted w join raised r on r.key = w.blob
  on conflict (owner, thread_id, path) do update set
    blob = excluded.blob, size = excluded.size, sha256 = excluded.sha256, made_from = excluded.made_from,
    modified_at = clock_timestamp()
  returning f.path, f.modified_at
), stale as (
  -- Of a document that has been replaced
  delete from slackwater.files f using saved s
  where f.owner = %(owner)s and f.thread_id = %(thread_id)s and f.made_from = s.path and f.path <> all(%(paths)s::text[])
)
select r.most, r.bytes, (select count(*) from ready) as ready,
  (select coalesce(jsonb_object_agg(path, extract(epoch from modified_at)), '{{}}') from saved) as saved from room r"""
"""All of the files or none: `saved` is what there is now, with its time. A quota or a blob that is not staged any more prevents it.

What a document of that name was converted to before goes, unless it is one of the files.
"""

_LIST = f"""
select {_COLUMNS} from slackwater.files
where owner = %(owner)s and thread_id = %(thread_id)s and starts_with(path, %(prefix)s) order by path"""

_FIND = f"""
select {_COLUMNS} from slackwater.files where owner = %(owner)s and thread_id = %(thread_id)s and path = %(path)s"""

_DELETE = """
delete from slackwater.files
where owner = %(owner)s and thread_id = %(thread_id)s and path = any(%(paths)s::text[]) returning path"""

_DELETE_COPIES = """
delete from slackwater.files where owner = %(owner)s and thread_id = %(thread_id)s and made_from = any(%(paths)s::text[])"""

_OF_BLOBS = f"""
select {_COLUMNS} from slackwater.files
where owner = %(owner)s and thread_id = %(thread_id)s and blob = any(%(keys)s::text[])"""

_DELETE_ALL = "delete from slackwater.files where owner = %(owner)s and thread_id = %(thread_id)s"

_ABANDON = """
update slackwater.blobs set state = 'abandoned', changed_at = clock_timestamp() where key = any(array(
  select key from slackwater.blobs where state = 'staged' and changed_at < clock_timestamp() - %(seconds)s * interval '1 second'
  limit %(limit)s for update skip locked))"""

_TO_SWEEP = """
select key, state from slackwater.blobs
where state in ('dead', 'abandoned') and (writable_until is null or writable_until < clock_timestamp()) limit %(limit)s"""

_SWEPT = "delete from slackwater.blobs where key = any(%(keys)s::text[]) and state in ('dead', 'abandoned')"


async def stage(
    database: Database, keys: Sequence[str], sizes: Sequence[int] = (), writable_seconds: float | None = None
) -> None:
    """These blobs are about to be written; by others, who have so many seconds and are to write so many bytes, if they are said."""
    parameters = {"keys": list(keys), "sizes": list(sizes or [0] * len(keys))}
    await database.execute(_STAGE, {**parameters, "writable_seconds": writable_seconds})


async def discard(database: Database, keys: Collection[str]) -> None:
    """Nobody writes these staged blobs any more: the sweep may delete them."""
    await database.execute(_DISCARD, {"keys": list(keys)})


async def staged(database: Database, keys: Collection[str]) -> dict[str, int]:
    """The size that each of these blobs is to have, of those that are staged."""
    return {row["key"]: row["size"] for row in await database.fetch(_STAGED, {"keys": list(keys)})}


def saving(owner: str, thread_id: UUID, new: Sequence[NewFile], most: int) -> list[Statement]:
    """The statements of `save`, to be sent in one transaction; the last one's row tells what came of it."""
    parameters = {
        "owner": owner,
        "thread_id": thread_id,
        "paths": [file.path for file in new],
        "blobs": [file.blob for file in new],
        "sizes": [file.size for file in new],
        "sha256s": [file.sha256 for file in new],
        "made_from": [file.made_from for file in new],
        "most": most,
    }
    return [(LOCK_OWNER, parameters), (SAVE, parameters)]


async def save(database: Database, owner: str, thread_id: UUID, new: Sequence[NewFile], most: int) -> Row:
    """`most` (bytes, 0: no limit), `bytes` that the owner has or would have, blobs that were `ready`, and what is `saved` (times by path)."""
    *_, (row,) = await database.pipeline(*saving(owner, thread_id, new, most))
    return row


async def list_(database: Database, owner: str, thread_id: UUID, prefix: str) -> list[Row]:
    """The files whose path begins with `prefix`, in the order of their paths."""
    return await database.fetch(_LIST, {"owner": owner, "thread_id": thread_id, "prefix": prefix})


async def find(database: Database, owner: str, thread_id: UUID, path: str) -> Row | None:
    return await database.fetch_one(_FIND, {"owner": owner, "thread_id": thread_id, "path": path})


async def delete(database: Database, owner: str, thread_id: UUID, paths: Collection[str]) -> list[str]:
    """Delete files, and what they were converted to; the paths of those that were there."""
    parameters = {"owner": owner, "thread_id": thread_id, "paths": list(paths)}
    gone, _ = await database.pipeline((_DELETE, parameters), (_DELETE_COPIES, parameters))
    return [row["path"] for row in gone]


async def of_blobs(database: Database, owner: str, thread_id: UUID, keys: Collection[str]) -> list[Row]:
    """The files that have these blobs."""
    parameters = {"owner": owner, "thread_id": thread_id, "keys": list(keys)}
    return await database.fetch(_OF_BLOBS, parameters)


async def delete_all(database: Database, owner: str, thread_id: UUID) -> int:
    """Delete all files that the owner has in a thread, whether there is such a thread or not; how many."""
    return await database.execute(_DELETE_ALL, {"owner": owner, "thread_id": thread_id})


async def abandon(database: Database, limit: int) -> int:
    """Give up blobs that have been staged too long; how many. Whoever still writes one cannot save it any more."""
    return await database.execute(_ABANDON, {"seconds": STAGED_SECONDS, "limit": limit})


async def to_sweep(database: Database, limit: int) -> list[Row]:
    """`key` and `state` of blobs that are to be deleted from the store."""
    return await database.fetch(_TO_SWEEP, {"limit": limit})


async def swept(database: Database, keys: Collection[str]) -> None:
    """These blobs are deleted from the store."""
    await database.execute(_SWEPT, {"keys": list(keys)})
