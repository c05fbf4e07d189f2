"""The SQL of the configuration: one row, written by compare-and-set on its version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from slackwater.identity.audit.actor import AuditAction
from slackwater.identity.audit.queries import audited
from slackwater.postgres.pool import Database, Row

_READ = """
select version, sealed_by, updated_at, case when version = %(known)s and updated_at = %(at)s then null else document end as document
from slackwater.mcp_config"""

# Who has read that there is none says version 0.
_WRITE = f"""
with changed as (
  update slackwater.mcp_config set document = %(document)s, sealed_by = %(sealed_by)s, version = version + 1,
    updated_at = clock_timestamp()
  where version = %(version)s returning version
), made as (
  insert into slackwater.mcp_config (document, sealed_by) select %(document)s, %(sealed_by)s where %(version)s::bigint = 0
  on conflict do nothing returning version
), written as (select version from changed union all select version from made),
told as (
  select null::text as owner, t.name, t.what
  from written, unnest(%(names)s::text[], %(whats)s::text[]) as t(name, what)
), {audited("told", AuditAction.MCP_SERVER_CHANGED, "name", detail="x.what")}
select version from written"""

_RESEAL = """
update slackwater.mcp_config set document = %(document)s, sealed_by = %(sealed_by)s
where version = %(version)s and sealed_by is not distinct from %(was)s"""


async def read(database: Database, known: int = 0, at: datetime | None = None) -> Row | None:
    """`version`, `sealed_by`, `updated_at` and `document`, which is None if that version of that time is known: where the row was deleted
    versions begin again. None if there is no configuration."""
    return await database.fetch_one(_READ, {"known": known, "at": at})


async def write(
    database: Database,
    *,
    document: Sequence[str],
    sealed_by: str | None,
    version: int,
    told: Mapping[str, str],
    actor: Mapping[str, Any],
) -> bool:
    """Replace that version, and tell what has become of which server; whether nobody has been first."""
    parameters = {
        "document": list(document),
        "sealed_by": sealed_by,
        "version": version,
        "names": list(told),
        "whats": list(told.values()),
        **actor,
    }
    return await database.fetch_one(_WRITE, parameters) is not None


async def reseal(
    database: Database, *, document: Sequence[str], sealed_by: str | None, version: int, was: str | None
) -> bool:
    """Store the same in another way, unless somebody else has changed it."""
    parameters = {"document": list(document), "sealed_by": sealed_by, "version": version, "was": was}
    return bool(await database.execute(_RESEAL, parameters))
