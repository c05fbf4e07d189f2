"""The SQL of agents. Each statement holds the owner, and decides by itself: what one request says merges with what another does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slackwater.postgres.pool import Database, Row

MOST_AGENTS = 100

FIELDS = ("description", "model", "tool_groups", "skills", "soul")

_COLUMNS = f"name, {', '.join(FIELDS)}, version, created_at, updated_at"

_LIST = f"select {_COLUMNS} from slackwater.agents where owner = %(owner)s order by name"
_FIND = f"select {_COLUMNS} from slackwater.agents where owner = %(owner)s and name = %(name)s"

_OF_RUN = f"""
select {", ".join(f"a.{field}" for field in ("name", *FIELDS))}, nullif(p.content, '') as user_profile
from slackwater.agents a left join slackwater.user_profiles p using (owner) where a.owner = %(owner)s and a.name = %(name)s"""

_CREATE = f"""
insert into slackwater.agents (owner, name, {", ".join(FIELDS)})
select %(owner)s, %(name)s, {", ".join(f"%({field})s" for field in FIELDS)}
where (select count(*) from slackwater.agents where owner = %(owner)s) < {MOST_AGENTS}
on conflict do nothing returning {_COLUMNS}"""

# A field may be changed by who knows what it is: what it was when the request came. Saying what it says already is no change.
_CHANGE = f"""
update slackwater.agents set {", ".join(f"{field} = case when %(said_{field})s then %({field})s else {field} end" for field in FIELDS)},
  version = version + 1, updated_at = clock_timestamp()
where owner = %(owner)s and name = %(name)s and (%(version)s::bigint is null or version = %(version)s)
  {" ".join(f"and (not %(said_{field})s or {field} is not distinct from %(read_{field})s or {field} is not distinct from %({field})s)" for field in FIELDS)}
returning {_COLUMNS}"""

_DELETE = """
delete from slackwater.agents
where owner = %(owner)s and name = %(name)s and (%(version)s::bigint is null or version = %(version)s)"""

_PROFILE = "select content, version from slackwater.user_profiles where owner = %(owner)s"

# Who has read that there is none says version 0.
_WRITE_PROFILE = """
with changed as (
  update slackwater.user_profiles set content = %(content)s, version = version + 1, updated_at = clock_timestamp()
  where owner = %(owner)s and version = %(version)s returning content, version
), made as (
  insert into slackwater.user_profiles (owner, content)
  select %(owner)s, %(content)s where %(version)s = 0
  on conflict do nothing returning content, version
)
select content, version from changed union all select content, version from made"""


async def list_(database: Database, owner: str) -> list[Row]:
    """By name."""
    return await database.fetch(_LIST, {"owner": owner})


async def find(database: Database, owner: str, name: str) -> Row | None:
    return await database.fetch_one(_FIND, {"owner": owner, "name": name})


async def of_run(database: Database, owner: str, name: str) -> Row | None:
    """The same, with what the owner says of themselves as `user_profile`."""
    return await database.fetch_one(_OF_RUN, {"owner": owner, "name": name})


async def create(database: Database, owner: str, name: str, said: Mapping[str, Any]) -> Row | None:
    """A new agent; None if there is one by that name, or as many as an owner may have."""
    fields = {field: said.get(field) for field in FIELDS}
    return await database.fetch_one(_CREATE, {"owner": owner, "name": name, **fields})


async def change(
    database: Database, owner: str, name: str, said: Mapping[str, Any], read: Row, version: int | None
) -> Row | None:
    """Change what is said, and nothing else.

    None if there is no such agent, if it is not that version, or if another has changed one of these fields since it was read.
    """
    fields = {field: said.get(field) for field in FIELDS}
    which = {f"said_{field}": field in said for field in FIELDS}
    was = {f"read_{field}": read[field] for field in FIELDS}
    return await database.fetch_one(
        _CHANGE, {"owner": owner, "name": name, "version": version, **fields, **which, **was}
    )


async def delete(database: Database, owner: str, name: str, version: int | None) -> bool:
    """Whether there was such an agent, of that version."""
    return await database.execute(_DELETE, {"owner": owner, "name": name, "version": version}) > 0


async def profile(database: Database, owner: str) -> Row | None:
    """What the owner says of themselves; None if they have said nothing."""
    return await database.fetch_one(_PROFILE, {"owner": owner})


async def write_profile(database: Database, owner: str, content: str, version: int) -> Row | None:
    """Replace it; None if it is not that version."""
    return await database.fetch_one(_WRITE_PROFILE, {"owner": owner, "content": content, "version": version})
