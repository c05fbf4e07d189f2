"""The SQL of skills. Each statement holds the owner; a change compares the version that was read, and writes its history with it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from slackwater.identity.audit.actor import AuditAction
from slackwater.identity.audit.queries import audited
from slackwater.identity.principal import SYSTEM_OWNER
from slackwater.postgres.pool import Database, Row
from slackwater.workspace.skills.document import Document

MOST_SKILLS = 100
MOST_BYTES = 64 * 1024 * 1024
"""So much may all skills of an owner have together."""
MOST_ENTRIES = 50
"""So long is the history of a skill; the oldest entries go."""
MOST_ENTRIES_OF_OWNER = 1000

EVERYBODY = SYSTEM_OWNER
"""As whom it is said what holds for all who have not said."""

# Public skills are in the process and not in the database: their names come as a parameter. An owner's own takes the place of a
# public one.
_SEEN = f"""
select x.name, x.category, x.description, x.license, x.content, x.version,
  coalesce(mine.enabled, case when x.category = 'public' then everybodys.enabled end, true) as enabled
from (
  select s.name, 'custom' as category, s.description, s.license, s.version, {{content}} as content
  from slackwater.skills s where s.owner = %(owner)s
  union all
  select p.name, 'public', null, null, null, null from unnest(%(public)s::text[]) as p(name)
  where not exists (select from slackwater.skills s where s.owner = %(owner)s and s.name = p.name)
) x
left join slackwater.skill_switches mine on mine.owner = %(owner)s and mine.name = x.name
left join slackwater.skill_switches everybodys on everybodys.owner = '{EVERYBODY}' and everybodys.name = x.name"""

_LIST = f"{_SEEN.format(content='null')} order by x.category desc, x.name"
_FIND = f"{_SEEN.format(content='s.content')} where x.name = %(name)s"

_SWITCH = """
insert into slackwater.skill_switches (owner, name, enabled)
select %(owner)s, %(name)s, %(enabled)s
where %(name)s = any(%(public)s::text[])
  or exists (select from slackwater.skills s where s.owner = %(owner)s and s.name = %(name)s)
on conflict (owner, name) do update set enabled = excluded.enabled"""

_SWITCH_FOR_EVERYBODY = f"""
with switched as (
  insert into slackwater.skill_switches (owner, name, enabled) values ('{EVERYBODY}', %(name)s, %(enabled)s)
  on conflict (owner, name) do update set enabled = excluded.enabled returning owner, name
), {audited("switched", AuditAction.SKILL_SWITCHED, "name", detail="case when %(enabled)s then 'on' else 'off' end")}
select name from switched"""

_OF_FILE = "(select f.content from slackwater.skill_files f where f.owner = s.owner and f.name = s.name and f.path = %(path)s)"
_FIND_FILE = f"{_SEEN.format(content=_OF_FILE)} where x.name = %(name)s"


def _told(rows: str) -> str:
    """The CTEs that add to the history of the skills in the CTE `rows`, and take its oldest entries away."""
    return f"""told as (
  insert into slackwater.skill_history
    (owner, name, action, author, thread_id, file_path, prev_content, new_content, scanner)
  select x.owner, x.name, %(action)s, 'human', %(thread_id)s, 'SKILL.md', %(prev_content)s, %(new_content)s,
    jsonb_build_object('decision', %(decision)s::text, 'reason', %(reason)s::text)
  from {rows} x
), trimmed as (
  delete from slackwater.skill_history h using {rows} x
  where h.owner = x.owner and h.entry_id = any(array(
    (select o.entry_id from slackwater.skill_history o where o.owner = x.owner and o.name = x.name
     order by o.entry_id desc offset {MOST_ENTRIES - 1})
    union all
    (select o.entry_id from slackwater.skill_history o where o.owner = x.owner
     order by o.entry_id desc offset {MOST_ENTRIES_OF_OWNER - 1})))
)"""


_ADD = f"""
with added as (
  insert into slackwater.skills (owner, name, description, license, content, size)
  select %(owner)s, %(name)s, %(description)s, %(license)s, %(content)s, %(size)s
  from (select count(*) as skills, coalesce(sum(size), 0) as bytes from slackwater.skills where owner = %(owner)s) there
  where there.skills < {MOST_SKILLS} and there.bytes + %(size)s <= {MOST_BYTES}
  on conflict do nothing returning owner, name, version
), files as (
  insert into slackwater.skill_files (owner, name, path, content)
  select a.owner, a.name, f.path, f.content from added a,
    unnest(%(paths)s::text[], %(contents)s::bytea[]) as f(path, content)
), anew as (
  -- It begins as all others do, whatever was said of one that had its name.
  delete from slackwater.skill_switches w using added a where w.owner = a.owner and w.name = a.name
), {_told("added")}
select version from added"""

_CHANGE = f"""
with changed as (
  update slackwater.skills s
  set description = %(description)s, license = %(license)s, content = %(content)s,
    size = s.size - octet_length(s.content) + octet_length(%(content)s),
    version = nextval('slackwater.skill_versions'), updated_at = clock_timestamp()
  where s.owner = %(owner)s and s.name = %(name)s and s.version = %(version)s
  returning s.owner, s.name, s.version
), {_told("changed")}
select version from changed"""

_DELETE = f"""
with gone as (
  delete from slackwater.skills s where s.owner = %(owner)s and s.name = %(name)s and s.version = %(version)s
  returning s.owner, s.name
), off as (
  delete from slackwater.skill_switches w using gone g where w.owner = g.owner and w.name = g.name
), {_told("gone")}
select name from gone"""

_TELL = f"""
with those as (select %(owner)s::text as owner, %(name)s::text as name), {_told("those")}
select name from those"""

_HISTORY = """
select action, author, thread_id, file_path, prev_content, new_content, scanner, at
from slackwater.skill_history where owner = %(owner)s and name = %(name)s order by entry_id"""


@dataclass(frozen=True, slots=True)
class Change:
    """What the history tells of a change."""

    action: str
    prev_content: str | None
    new_content: str | None
    decision: str
    reason: str
    thread_id: UUID | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


async def list_(database: Database, owner: str, public: Collection[str]) -> list[Row]:
    """What the owner sees, without contents: public skills first, then their own, each by name."""
    return await database.fetch(_LIST, {"owner": owner, "public": list(public)})


async def find(database: Database, owner: str, name: str, public: Collection[str]) -> Row | None:
    """One of them, with its content if it is the owner's own."""
    return await database.fetch_one(_FIND, {"owner": owner, "name": name, "public": _named(name, public)})


async def find_file(
    database: Database, owner: str, name: str, public: Collection[str], path: str
) -> Row | None:
    """One of them, with the content of a file beside SKILL.md, as bytes: None if it is public or has no such file."""
    return await database.fetch_one(
        _FIND_FILE, {"owner": owner, "name": name, "public": _named(name, public), "path": path}
    )


async def switch(
    database: Database, owner: str, name: str, public: Collection[str], *, enabled: bool
) -> Row | None:
    """Switch a skill on or off for one owner; the skill, or None if there is none."""
    parameters = {"owner": owner, "name": name, "public": _named(name, public), "enabled": enabled}
    _, found = await database.pipeline((_SWITCH, parameters), (_FIND, parameters))
    return found[0] if found else None


async def switch_for_everybody(
    database: Database, name: str, *, enabled: bool, actor: Mapping[str, Any]
) -> None:
    """Switch a public skill on or off for all who have not said."""
    await database.execute(_SWITCH_FOR_EVERYBODY, {"name": name, "enabled": enabled, **actor})


async def add(
    database: Database, owner: str, document: Document, files: Mapping[str, bytes], entry: Change
) -> int | None:
    """A skill that was not there; its version, or None if it is there by now or the owner has as much as they may."""
    size = len(document.content.encode()) + sum(map(len, files.values()))
    parameters = {
        **_columns(owner, document),
        **entry.parameters,
        "size": size,
        "paths": list(files),
        "contents": list(files.values()),
    }
    row = await database.fetch_one(_ADD, parameters)
    return row["version"] if row else None


async def change(
    database: Database, owner: str, document: Document, version: int, entry: Change
) -> int | None:
    """Replace SKILL.md; the new version, or None if it is not this version any more."""
    row = await database.fetch_one(
        _CHANGE, {**_columns(owner, document), **entry.parameters, "version": version}
    )
    return row["version"] if row else None


async def delete(database: Database, owner: str, name: str, version: int, entry: Change) -> bool:
    """Delete it; False if it is not this version any more."""
    parameters = {"owner": owner, "name": name, "version": version, **entry.parameters}
    return await database.fetch_one(_DELETE, parameters) is not None


async def tell(database: Database, owner: str, name: str, entry: Change) -> None:
    """Add to the history of what has not been changed."""
    await database.execute(_TELL, {"owner": owner, "name": name, **entry.parameters})


async def history(database: Database, owner: str, name: str) -> list[Row]:
    """Oldest first: at most so many entries as are kept, of two documents each."""
    return await database.fetch(_HISTORY, {"owner": owner, "name": name})


def _named(name: str, public: Collection[str]) -> list[str]:
    """Of the public skills, the only one that is asked about."""
    return [name] if name in public else []


def _columns(owner: str, document: Document) -> dict[str, Any]:
    return {
        "owner": owner,
        "name": document.name,
        "description": document.description,
        "license": document.license,
        "content": document.content,
    }
