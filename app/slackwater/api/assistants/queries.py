"""The SQL of assistants. Whoever reads sees his own rows and the system's; whoever writes, his own only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from slackwater.api.assistants.row import AssistantRow
from slackwater.identity.audit.actor import NOBODY, Actor, AuditAction
from slackwater.identity.audit.queries import audited
from slackwater.identity.custom.queries import OWN, OWN_OR_SYSTEM, Visible
from slackwater.identity.principal import SYSTEM_OWNER
from slackwater.postgres.pool import Database

if TYPE_CHECKING:
    from slackwater.api.assistants.models import AssistantFilter, AssistantSearch, SortBy

_COLUMNS: LiteralString = "assistant_id, owner, graph_id, name, description, config, context, metadata, version, created_at, updated_at"

_VERSION: LiteralString = (
    "assistant_id, version, owner, graph_id, name, description, config, context, metadata"
)

# In the same statement: a version is there with its number, or neither is.
_KEEP: LiteralString = f"""kept as (
  insert into slackwater.assistant_versions ({_VERSION}) select {_VERSION} from changed
)"""

_NEXT: LiteralString = "greatest(old.version, old.last_version) + 1"

_KEPT_NAME: LiteralString = (
    "case when old.assistant_id = any(%(unnamed)s::uuid[]) then old.name else excluded.name end"
)

_FILTER: LiteralString = """
    graph_id = any(%(graphs)s)
    and metadata @> %(metadata)s
    and (%(graph_id)s::text is null or graph_id = %(graph_id)s)
    and (%(name)s::text is null or strpos(lower(name), lower(%(name)s)) > 0)
"""

_ORDER: dict[SortBy, LiteralString] = {
    "assistant_id": "assistant_id",
    "graph_id": "lower(graph_id)",
    "name": "lower(name)",
    "created_at": "created_at",
    "updated_at": "updated_at",
}


async def register(
    database: Database, rows: Sequence[tuple[UUID, str, str, str | None]], unnamed: Sequence[UUID] = ()
) -> list[AssistantRow]:
    """Make the system assistants `(assistant_id, graph_id, name, description)` what they must be; all of them.

    One statement in the order of the ids: processes that start together wait for one another's rows and then
    find nothing to change. A row that is already right stays untouched, one that differs is a new version. Those of
    `unnamed` that are there keep their name.
    """
    rows = sorted(rows, key=lambda row: row[0])
    ids, graph_ids, names, descriptions = ([row[column] for row in rows] for column in range(4))
    _, found = await database.pipeline(
        (
            f"""
            with changed as (
            insert into slackwater.assistants as old (assistant_id, owner, graph_id, name, description, metadata)
            select given.*, %(metadata)s
              from (select unnest(%(ids)s::uuid[]) as assistant_id, %(system)s::text, unnest(%(graph_ids)s::text[]),
                           unnest(%(names)s::text[]), unnest(%(descriptions)s::text[])) as given
             order by given.assistant_id
            on conflict (assistant_id) do update
               set owner = excluded.owner, graph_id = excluded.graph_id, name = {_KEPT_NAME},
                   description = excluded.description, config = excluded.config, context = excluded.context,
                   metadata = excluded.metadata, version = {_NEXT}, last_version = {_NEXT}, updated_at = now()
             where (old.owner, old.graph_id, old.name, old.description, old.config, old.context, old.metadata)
                   is distinct from
                   (excluded.owner, excluded.graph_id, {_KEPT_NAME}, excluded.description, excluded.config,
                    excluded.context, excluded.metadata)
            returning *
            ), {_KEEP}
            select 1 from changed
            """,
            {
                "ids": ids,
                "graph_ids": graph_ids,
                "names": names,
                "unnamed": list(unnamed),
                "descriptions": descriptions,
                "system": SYSTEM_OWNER,
                "metadata": Jsonb({"created_by": "system"}),
            },
        ),
        (f"select {_COLUMNS} from slackwater.assistants where assistant_id = any(%s)", [ids]),
    )
    return [AssistantRow(**row) for row in found]


async def insert(database: Database, row: dict[str, Any]) -> AssistantRow | None:
    """The new assistant, or None if its id is taken, by whomever."""
    return _row(
        await database.fetch_one(
            f"""
            with changed as (
            insert into slackwater.assistants
                   (assistant_id, owner, graph_id, name, description, config, context, metadata)
            values (%(assistant_id)s, %(owner)s, %(graph_id)s, %(name)s, %(description)s,
                    %(config)s, %(context)s, %(metadata)s)
            on conflict (assistant_id) do nothing
            returning *
            ), {_KEEP}
            select {_COLUMNS} from changed
            """,
            _jsonb(row, "config", "context", "metadata"),
        )
    )


async def find(
    database: Database, owner: str, assistant_id: UUID, seen: Visible = OWN_OR_SYSTEM
) -> AssistantRow | None:
    """The owner's or the system's assistant."""
    return _row(
        await database.fetch_one(
            f"select {_COLUMNS} from slackwater.assistants where assistant_id = %(assistant_id)s and {seen.condition}",
            {**seen.parameters, "assistant_id": assistant_id, "owner": owner, "system": SYSTEM_OWNER},
        )
    )


async def search(
    database: Database,
    owner: str,
    graphs: Sequence[str],
    query: AssistantSearch,
    seen: Visible = OWN_OR_SYSTEM,
) -> list[AssistantRow]:
    """One page and, where there is more, the first row of the next one."""
    order = _ORDER[query.sort_by or "created_at"]
    direction: LiteralString = "asc" if query.sort_order == "asc" else "desc"
    rows = await database.fetch_page(
        f"select {_COLUMNS} from slackwater.assistants where {seen.condition} and {_FILTER} "
        f"order by {order} {direction}, assistant_id {direction} limit %(limit)s offset %(offset)s",
        {
            **_filter(owner, graphs, query),
            **seen.parameters,
            "limit": query.limit + 1,
            "offset": query.offset,
        },
        query.limit,
    )
    return [AssistantRow(**row) for row in rows]


async def count(
    database: Database,
    owner: str,
    graphs: Sequence[str],
    query: AssistantFilter,
    seen: Visible = OWN_OR_SYSTEM,
) -> int:
    row = await database.fetch_one(
        f"select count(*) as number from slackwater.assistants where {seen.condition} and {_FILTER}",
        {**_filter(owner, graphs, query), **seen.parameters},
    )
    return int(row["number"]) if row else 0


async def update(
    database: Database, owner: str, assistant_id: UUID, changes: dict[str, Any], seen: Visible = OWN
) -> AssistantRow | None:
    """The new version, or None if the owner has no such assistant. A change of None leaves what is there.

    `metadata` and `config_patch` are merged over what is there, everything else replaces it.
    """
    return _row(
        await database.fetch_one(
            f"""
            with changed as (
            update slackwater.assistants as old
               set graph_id = coalesce(%(graph_id)s, graph_id),
                   name = coalesce(%(name)s, name),
                   description = case when %(set_description)s then %(description)s else description end,
                   config = coalesce(%(config)s, config) || %(config_patch)s,
                   context = coalesce(%(context)s, context),
                   metadata = metadata || %(metadata)s,
                   version = {_NEXT},
                   last_version = {_NEXT},
                   updated_at = now()
             where assistant_id = %(assistant_id)s and {seen.condition} and owner <> %(system)s
            returning *
            ), {_KEEP}
            select {_COLUMNS} from changed
            """,
            {
                **_jsonb(changes, "config", "config_patch", "context", "metadata"),
                **seen.parameters,
                "assistant_id": assistant_id,
                "owner": owner,
                "system": SYSTEM_OWNER,
            },
        )
    )


async def versions(
    database: Database,
    owner: str,
    assistant_id: UUID,
    metadata: dict[str, Any],
    *,
    limit: int,
    offset: int,
    seen: Visible = OWN_OR_SYSTEM,
) -> list[AssistantRow]:
    """The versions of the owner's or the system's assistant, newest first; `metadata` by containment."""
    rows = await database.fetch_page(
        f"""
        select v.assistant_id, v.owner, v.graph_id, v.name, v.description, v.config, v.context, v.metadata, v.version,
               v.created_at, v.created_at as updated_at
          from slackwater.assistant_versions v join slackwater.assistants a using (assistant_id, owner)
         where a.assistant_id = (select assistant_id from slackwater.assistants
                                  where assistant_id = %(assistant_id)s and {seen.condition})
           and v.metadata @> %(metadata)s
         order by v.version desc limit %(limit)s offset %(offset)s
        """,
        {
            **seen.parameters,
            "assistant_id": assistant_id,
            "owner": owner,
            "system": SYSTEM_OWNER,
            "metadata": Jsonb(metadata),
            "limit": limit,
            "offset": offset,
        },
        limit,
    )
    return [AssistantRow(**row) for row in rows]


async def activate(
    database: Database,
    owner: str,
    assistant_id: UUID,
    version: int,
    graphs: Sequence[str],
    seen: Visible = OWN,
) -> AssistantRow | None:
    """Make the version the one that runs use; None if the owner has no such one, or its graph is none of `graphs`."""
    return _row(
        await database.fetch_one(
            f"""
            update slackwater.assistants a
               set version = v.version, graph_id = v.graph_id, name = v.name, description = v.description,
                   config = v.config, context = v.context, metadata = v.metadata, updated_at = now()
              from slackwater.assistant_versions v
             where a.assistant_id = (select assistant_id from slackwater.assistants
                                      where assistant_id = %(assistant_id)s and {seen.condition})
               and a.owner <> %(system)s
               and v.assistant_id = a.assistant_id and v.owner = a.owner and v.version = %(version)s
               and v.graph_id = any(%(graphs)s)
            returning a.assistant_id, a.owner, a.graph_id, a.name, a.description, a.config, a.context, a.metadata,
                      a.version, a.created_at, a.updated_at
            """,
            {
                **seen.parameters,
                "assistant_id": assistant_id,
                "owner": owner,
                "system": SYSTEM_OWNER,
                "version": version,
                "graphs": list(graphs),
            },
        )
    )


async def delete(
    database: Database, owner: str, assistant_id: UUID, seen: Visible = OWN, actor: Actor = NOBODY
) -> bool:
    """Delete it with its versions; False if the owner has no such assistant."""
    return bool(
        await database.execute(
            f"""with gone as (
                  delete from slackwater.assistants where assistant_id = %(assistant_id)s and {seen.condition}
                    and owner <> %(system)s returning assistant_id, owner
                ), {audited("gone", AuditAction.ASSISTANT_DELETED, "assistant_id")}
                select 1 from gone""",
            {
                **seen.parameters,
                **actor.parameters,
                "assistant_id": assistant_id,
                "owner": owner,
                "system": SYSTEM_OWNER,
            },
        )
    )


def _filter(owner: str, graphs: Sequence[str], query: AssistantFilter) -> dict[str, Any]:
    return {
        "owner": owner,
        "system": SYSTEM_OWNER,
        "graphs": list(graphs),
        "metadata": Jsonb(query.metadata),
        "graph_id": query.graph_id,
        "name": query.name,
    }


def _jsonb(values: dict[str, Any], *columns: str) -> dict[str, Any]:
    return {**values, **{name: Jsonb(values[name]) for name in columns if values[name] is not None}}


def _row(row: dict[str, Any] | None) -> AssistantRow | None:
    return AssistantRow(**row) if row else None
