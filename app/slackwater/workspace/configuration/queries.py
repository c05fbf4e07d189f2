"""The SQL of the configuration: one row, changed by compare-and-set on its version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from slackwater.identity.audit.actor import Actor, AuditAction
from slackwater.identity.audit.queries import audited
from slackwater.identity.principal import SYSTEM_OWNER
from slackwater.postgres.pool import Database, Row

_READ = "select version, value, changed_at from slackwater.configuration"

# Not the version alone: after a failover that has forgotten it, another may have the same.
_IF_CHANGED = """
select version, value, changed_at from slackwater.configuration
where (version, changed_at) is distinct from (%(version)s, %(changed_at)s::timestamptz)"""

_TROUBLES = """
select t.version, t.problem, t.processes, t.process, t.said_at from slackwater.configuration_troubles t
join slackwater.configuration c using (version) order by t.problem"""

_CHANGE = f"""
with changed as (
  update slackwater.configuration set version = version + 1, value = %(value)s, changed_at = clock_timestamp()
  where version = %(version)s returning version, value, changed_at, '{SYSTEM_OWNER}' as owner
), forgotten as (
  delete from slackwater.configuration_troubles where exists (select from changed)
), {audited("changed", AuditAction.CONFIGURATION_CHANGED, "version", detail="%(keys)s")}
select version, value, changed_at from changed"""

# Only of the version that is there: one that came late must not stay for ever.
_SAY_TROUBLE = """
insert into slackwater.configuration_troubles as t (version, problem, process)
select version, %(problem)s, %(process)s from slackwater.configuration where version = %(version)s
on conflict (version, problem) do update
set processes = t.processes + 1, process = excluded.process, said_at = clock_timestamp()"""


async def read(database: Database) -> Row:
    """`version`, `value`, `changed_at`."""
    (row,) = await database.fetch(_READ)
    return row


async def read_if_changed(database: Database, version: int, changed_at: datetime | None) -> Row | None:
    """`version`, `value`, `changed_at`; None if it still is the one that is known."""
    return await database.fetch_one(_IF_CHANGED, {"version": version, "changed_at": changed_at})


async def troubles(database: Database) -> list[Row]:
    """Why processes could not use the version that is there."""
    return await database.fetch(_TROUBLES)


async def change(
    database: Database, version: int, value: Mapping[str, Any], keys: Sequence[str], actor: Actor
) -> Row | None:
    """Replace that version; None if there is another by now. `keys`: what has changed, for the audit."""
    parameters = {
        "version": version,
        "value": Jsonb(value),
        "keys": ", ".join(keys),
        **actor.parameters,
    }
    return await database.fetch_one(_CHANGE, parameters)


async def say_trouble(database: Database, version: int, problem: str, process: str) -> None:
    """That process cannot use that version."""
    await database.execute(_SAY_TROUBLE, {"version": version, "problem": problem, "process": process})
