"""What nodes have changed, in SQL: fenced, all of it or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from psycopg.errors import DivisionByZero

from slackwater.blobs.files import TooManyFileBytes
from slackwater.blobs.queries import LOCK_OWNER, NewFile, room
from slackwater.postgres.pool import Statement

FILES = """
select path, blob, size, sha256, modified_at from slackwater.files where owner = %(owner)s and thread_id = %(thread_id)s order by path"""
"""All files of a thread."""

_STORE = f"""
with owned as materialized ({{owned}}
), wanted as materialized (
  select * from unnest(%(paths)s::text[], %(blobs)s::text[], %(sizes)s::bigint[], %(sha256s)s::text[])
    as w(path, blob, size, sha256)
), removed as materialized (
  select f.path, f.size from slackwater.files f
  join unnest(%(gone_paths)s::text[], %(gone_blobs)s::text[]) as g(path, blob) on g.path = f.path and g.blob = f.blob
  where f.owner = %(owner)s and f.thread_id = %(thread_id)s and exists (select from owned)
), ready as materialized (
  -- Live ones have been stored by this statement, whose answer was lost.
  select b.key from slackwater.blobs b where b.key = any(%(blobs)s::text[]) and b.state in ('staged', 'live') for update
), {room("(select coalesce(sum(size), 0) from removed)")}, raised as (
  update slackwater.blobs b set state = 'live', size = w.size, changed_at = clock_timestamp()
  from wanted w where b.key = w.blob and b.key in (select key from ready) and exists (select from owned)
), saved as (
  insert into slackwater.files as f (owner, thread_id, path, blob, size, sha256)
  select %(owner)s, %(thread_id)s, w.path, w.blob, w.size, w.sha256 from wanted w where exists (select from owned)
  on conflict (owner, thread_id, path) do update set
    blob = excluded.blob, size = excluded.size, sha256 = excluded.sha256, made_from = null, modified_at = clock_timestamp()
    where f.blob <> excluded.blob
), deleted as (
  delete from slackwater.files f using removed r where f.owner = %(owner)s and f.thread_id = %(thread_id)s and f.path = r.path
)
select 1 / (case when not exists (select from owned) then 1
  when (select count(*) from ready) < (select count(*) from wanted) then 0
  when r.most > 0 and r.bytes > r.most and (select coalesce(sum(size), 0) from wanted) > 0 then 0 else 1 end) as stored
from room r"""
"""Divides by zero, and so undoes its transaction, where the files may not be stored: beyond the quota, or swept meanwhile."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What a run has changed among the files of its thread."""

    owner: str
    thread_id: UUID
    most: int
    """Bytes of an owner who has no limit of their own; 0: no limit."""
    saved: Mapping[str, NewFile] = field(default_factory=dict)
    """By path; their blobs are staged."""
    gone: Mapping[str, str] = field(default_factory=dict)
    """The blobs of files that were deleted, by path: a file that somebody else has replaced meanwhile stays."""

    def merged(self, later: Changes) -> Changes:
        """These changes, and then those of the same run that came later."""
        kept = {path: file for path, file in self.saved.items() if path not in later.gone}
        saved = {**kept, **later.saved}
        # What was never visible is not to be deleted; what it had replaced is.
        gone = {path: blob for path, blob in {**later.gone, **self.gone}.items() if path not in later.saved}
        return Changes(self.owner, self.thread_id, self.most, saved, gone)

    def statements(self, owned: str, key: Mapping[str, Any]) -> list[Statement]:
        """What makes them visible, if `owned`, a select by the parameters of `key`, finds a row. Idempotent."""
        files = list(self.saved.values())
        parameters = {
            **key,
            "owner": self.owner,
            "thread_id": self.thread_id,
            "most": self.most,
            "paths": [file.path for file in files],
            "blobs": [file.blob for file in files],
            "sizes": [file.size for file in files],
            "sha256s": [file.sha256 for file in files],
            "gone_paths": list(self.gone),
            "gone_blobs": list(self.gone.values()),
        }
        return [(LOCK_OWNER, parameters), (_STORE.format(owned=owned), parameters)]

    def refusal(self, error: Exception) -> Exception | None:
        """Why the statements have failed with the error; None if it is not theirs."""
        return TooManyFileBytes() if isinstance(error, DivisionByZero) else None
