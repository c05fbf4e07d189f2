"""The files of owners' homes, in the table of files: below `home/`, of a thread that nobody else has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import NAMESPACE_URL, UUID, uuid5

from slackwater.blobs.files import TooManyFileBytes
from slackwater.blobs.queries import LOCK_OWNER, NewFile, room
from slackwater.postgres.pool import Database, Row

PREFIX = "home/"

_ROWS = """
select substr(path, 6) as path, blob, size, sha256, modified_at from slackwater.files
where owner = %(owner)s and thread_id = %(thread_id)s and starts_with(path, 'home/') order by path"""

# What was stored by this statement, whose answer was lost, is stored.
_STORE = f"""
with wanted as materialized (
  select * from unnest(%(paths)s::text[], %(blobs)s::text[], %(sizes)s::bigint[], %(sha256s)s::text[], %(bases)s::text[])
    as w(path, blob, size, sha256, base)
), ready as materialized (
  select b.key from slackwater.blobs b where b.key = any(%(blobs)s::text[]) and b.state in ('staged', 'live') for update
), removed as materialized (
  select f.path, f.size from slackwater.files f
  join unnest(%(gone_paths)s::text[], %(gone_blobs)s::text[]) as g(path, blob) on g.path = f.path and g.blob = f.blob
  where f.owner = %(owner)s and f.thread_id = %(thread_id)s
), {room("(select coalesce(sum(size), 0) from removed)")}, go as materialized (
  select from room where most = 0 or bytes <= most or not exists (select from wanted)
), updated as (
  update slackwater.files f set blob = w.blob, size = w.size, sha256 = w.sha256, modified_at = clock_timestamp()
  from wanted w where f.owner = %(owner)s and f.thread_id = %(thread_id)s and f.path = w.path and f.blob = w.base
    and w.blob in (select key from ready) and exists (select from go)
  returning f.path, f.blob
), inserted as (
  insert into slackwater.files as f (owner, thread_id, path, blob, size, sha256)
  select %(owner)s, %(thread_id)s, w.path, w.blob, w.size, w.sha256 from wanted w
  where w.base is null and w.blob in (select key from ready) and exists (select from go)
  on conflict (owner, thread_id, path) do nothing
  returning f.path, f.blob
), again as (
  select f.path, f.blob from slackwater.files f join wanted w on w.path = f.path and w.blob = f.blob
  where f.owner = %(owner)s and f.thread_id = %(thread_id)s
), stored as (
  select * from updated union select * from inserted union select * from again
), raised as (
  update slackwater.blobs b set state = 'live', size = w.size, changed_at = clock_timestamp()
  from wanted w join stored s on s.blob = w.blob where b.key = w.blob
), deleted as (
  delete from slackwater.files f using removed r where f.owner = %(owner)s and f.thread_id = %(thread_id)s and f.path = r.path
)
select r.most > 0 and r.bytes > r.most and exists (select from wanted) as refused,
  (select coalesce(array_agg(substr(path, 6)), '{{}}') from stored) as stored from room r"""
"""Each file by compare-and-set on the blob that it is based on; null: there is none."""


def home_of(owner: str) -> UUID:
    """What the files of an owner's home have in the place of a thread."""
    return uuid5(NAMESPACE_URL, f"slackwater:home:{owner}")


async def rows(database: Database, owner: str) -> list[Row]:
    """`path`, `blob`, `size`, `sha256` and `modified_at` of all files of the owner's home."""
    return await database.fetch(_ROWS, {"owner": owner, "thread_id": home_of(owner)})


async def store(
    database: Database,
    owner: str,
    new: Sequence[NewFile],
    bases: Sequence[str | None],
    gone: Mapping[str, str],
    most: int,
) -> frozenset[str]:
    """Store each file that is based on what is there, and delete those of `gone` that still have that blob; which were stored.

    Raises TooManyFileBytes; nothing is stored then.
    """
    parameters = {
        "owner": owner,
        "thread_id": home_of(owner),
        "paths": [PREFIX + file.path for file in new],
        "blobs": [file.blob for file in new],
        "sizes": [file.size for file in new],
        "sha256s": [file.sha256 for file in new],
        "bases": list(bases),
        "gone_paths": [PREFIX + path for path in gone],
        "gone_blobs": list(gone.values()),
        "most": most,
    }
    *_, (row,) = await database.pipeline((LOCK_OWNER, parameters), (_STORE, parameters))
    if row["refused"]:
        raise TooManyFileBytes
    return frozenset(row["stored"])
