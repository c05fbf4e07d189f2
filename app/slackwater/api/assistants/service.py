"""The rules of assistants: one of each graph for everybody, and those that callers make for themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5
from weakref import WeakKeyDictionary

from slackwater.api.assistants import queries
from slackwater.api.assistants.row import AssistantRow
from slackwater.errors import BadRequest, Conflict, Invalid, NotFound
from slackwater.graphs.config import config_of
from slackwater.graphs.registry import Graphs
from slackwater.identity.audit.actor import Actor
from slackwater.identity.custom import access
from slackwater.identity.custom.access import Value
from slackwater.identity.custom.queries import visible
from slackwater.identity.principal import Principal

if TYPE_CHECKING:
    from slackwater.api.assistants.models import (
        AssistantCreate,
        AssistantFilter,
        AssistantPatch,
        AssistantSearch,
        VersionSearch,
    )
    from slackwater.graphs.registry import Graph
    from slackwater.services import Services

NAMESPACE = UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8")
"""The official server's literal; not one of RFC 4122's, which have `b810` to `b814` where this has `b821`."""

CONFIG_OR_CONTEXT = (
    "Cannot specify both configurable and context. Prefer setting context alone. Context was introduced in "
    "LangGraph 0.6.0 and is the long term planned replacement for configurable."
)

UNTITLED = "Untitled"

# They never change while the process lives, and every run asks for one.
_system_assistants: WeakKeyDictionary[Graphs, Mapping[UUID, AssistantRow]] = WeakKeyDictionary()


def is_of_system(graphs: Graphs, assistant_id: UUID | None) -> bool:
    """Whether an assistant is the one that each graph has."""
    return assistant_id in _system_assistants.get(graphs, {})


def system_id(graph_id: str) -> UUID:
    """The id of the graph's system assistant, the same on every server."""
    return uuid5(NAMESPACE, graph_id)


async def register(services: Services) -> None:
    """Make sure that each graph has its system assistant. Safe when many processes start at once.

    A graph that has not been imported keeps the name that its assistant has already, or else is called by its id, until
    it is imported.
    """
    graphs = services.graphs
    wanted = [(system_id(id_), id_, graphs.name(id_) or id_, graphs.description(id_)) for id_ in graphs.ids]
    unnamed = [system_id(id_) for id_ in graphs.ids if graphs.name(id_) is None]
    rows = await queries.register(services.database, wanted, unnamed)
    _system_assistants[graphs] = {row.assistant_id: row for row in rows}

    async def correct_name(graph_id: str) -> None:
        if _system_assistants[graphs][system_id(graph_id)].name != graphs.name(graph_id):
            await register(services)

    graphs.on_import = correct_name


async def resolve(services: Services, principal: Principal, assistant: str) -> AssistantRow:
    """The assistant that a run names, by a graph's id or an assistant's.

    Raises Invalid for what can be neither, NotFound for an id that is not there for this caller.
    """
    assistant_id = id_of(services.graphs, assistant)
    if assistant_id is None:
        raise Invalid(
            f"Invalid assistant: '{assistant}'. Must be either:\n- A valid assistant UUID, or\n"
            f"- One of the registered graphs: {', '.join(services.graphs.ids)}"
        )
    row = _system_assistants.get(services.graphs, {}).get(assistant_id)
    if row is None:
        filter_ = await access.decide(
            services, principal, "assistants", "read", {"assistant_id": assistant_id}
        )
        seen = visible(filter_, system=True)
        row = await queries.find(services.database, principal.owner, assistant_id, seen)
    if row is None or row.graph_id not in services.graphs:
        raise NotFound("Thread or assistant not found.")
    return row


async def create(services: Services, principal: Principal, body: AssistantCreate) -> AssistantRow:
    """Raises NotFound for an unknown graph, BadRequest, and Conflict if the id is taken."""
    services.graphs.require(body.graph_id)
    value = body.model_dump(exclude={"metadata", "description"})
    value |= {"metadata": body.metadata, "name": body.name or UNTITLED, "context": body.context or None}
    filter_ = await access.decide(services, principal, "assistants", "create", value)
    body = access.changed(body, value)
    config, context = _mirror(value["config"] or {}, value["context"] or {})
    row = await queries.insert(
        services.database,
        {
            "assistant_id": body.assistant_id,
            "owner": principal.owner,
            "graph_id": body.graph_id,
            "name": body.name or UNTITLED,
            "description": body.description,
            "config": config,
            "context": context,
            "metadata": body.metadata,
        },
    )
    if row is None and body.if_exists == "do_nothing":
        seen = visible(filter_, system=True)
        row = await queries.find(services.database, principal.owner, body.assistant_id, seen)
    if row is None:
        raise Conflict(f"Assistant {body.assistant_id} already exists")
    return row


async def get(services: Services, principal: Principal, assistant_id: UUID) -> AssistantRow:
    """Raises NotFound, also if the assistant's graph is not served here."""
    filter_ = await access.decide(services, principal, "assistants", "read", {"assistant_id": assistant_id})
    row = await queries.find(services.database, principal.owner, assistant_id, visible(filter_, system=True))
    if row is None:
        raise NotFound
    if row.graph_id not in services.graphs:
        raise NotFound(f"assistant {assistant_id} not found")
    return row


async def search(services: Services, principal: Principal, query: AssistantSearch) -> list[AssistantRow]:
    """One page and, where there is more, one row of the next. Raises NotFound for an unknown graph."""
    if query.graph_id is not None:
        services.graphs.require(query.graph_id)
    value: Value = {"graph_id": query.graph_id, "metadata": query.metadata}
    value |= {"limit": query.limit, "offset": query.offset}
    filter_ = await access.decide(services, principal, "assistants", "search", value)
    seen = visible(filter_, system=True)
    query = access.changed(query, value)
    return await queries.search(services.database, principal.owner, services.graphs.ids, query, seen)


async def count(services: Services, principal: Principal, query: AssistantFilter) -> int:
    """The number of matches. Raises NotFound for an unknown graph."""
    if query.graph_id is not None:
        services.graphs.require(query.graph_id)
    value: Value = {"graph_id": query.graph_id, "metadata": query.metadata, "limit": 0, "offset": 0}
    filter_ = await access.decide(services, principal, "assistants", "search", value)
    seen = visible(filter_, system=True)
    query = access.changed(query, value)
    return await queries.count(services.database, principal.owner, services.graphs.ids, query, seen)


async def patch(
    services: Services, principal: Principal, assistant_id: UUID, body: AssistantPatch
) -> AssistantRow:
    """The assistant's next version. Raises NotFound, also for a system assistant, and BadRequest."""
    if body.graph_id is not None:
        services.graphs.require(body.graph_id)
    value: Value = {**body.model_dump(exclude={"metadata", "description"}), "metadata": body.metadata}
    value |= {"assistant_id": assistant_id, "config": value["config"] or {}}
    filter_ = await access.decide(services, principal, "assistants", "update", value)
    given = {
        name: value[name] for name in ("config", "context") if value[name] or name in body.model_fields_set
    }
    changes = _changes(access.changed(body, value).model_copy(update=given))
    row = await queries.update(services.database, principal.owner, assistant_id, changes, visible(filter_))
    if row is None:
        raise NotFound(f"Assistant {assistant_id} not found")
    return row


async def versions(
    services: Services, principal: Principal, assistant_id: UUID, query: VersionSearch
) -> list[AssistantRow]:
    """The assistant's versions, newest first. Raises NotFound, also where the page is empty."""
    filter_ = await access.decide(services, principal, "assistants", "read", {"assistant_id": assistant_id})
    rows = await queries.versions(
        services.database,
        principal.owner,
        assistant_id,
        query.metadata,
        limit=query.limit,
        offset=query.offset,
        seen=visible(filter_, system=True),
    )
    if not rows:
        raise NotFound(f"Assistant {assistant_id} not found")
    return rows


async def set_latest(
    services: Services, principal: Principal, assistant_id: UUID, version: int | None
) -> AssistantRow:
    """Make a version the active one, whole. Raises NotFound, also if this server does not have its graph."""
    row = None
    value: Value = {"assistant_id": assistant_id, "version": version}
    filter_ = await access.decide(services, principal, "assistants", "update", value)
    database, owner = services.database, principal.owner
    if version is not None:
        row = await queries.activate(
            database, owner, assistant_id, version, services.graphs.ids, visible(filter_)
        )
    if row is None:
        seen = visible(filter_, system=True)
        if not await queries.versions(database, owner, assistant_id, {}, limit=1, offset=0, seen=seen):
            raise NotFound(f"Assistant {assistant_id} not found")
        raise NotFound(f"Version {version} not found for assistant {assistant_id}")
    return row


async def delete(services: Services, principal: Principal, assistant_id: UUID) -> None:
    """Raises NotFound, also for a system assistant. Its runs go on: they took from it what they need."""
    filter_ = await access.decide(services, principal, "assistants", "delete", {"assistant_id": assistant_id})
    seen, actor = visible(filter_), Actor.of(principal)
    if not await queries.delete(services.database, principal.owner, assistant_id, seen, actor):
        raise NotFound(f"Assistant with ID {assistant_id} not found")


@asynccontextmanager
async def open_graph(
    services: Services, principal: Principal, assistant: str
) -> AsyncIterator[tuple[str, Graph]]:
    """The id and the graph of an assistant that a graph's id or an assistant's names, to be looked at."""
    assistant_id = id_of(services.graphs, assistant)
    if assistant_id is None:
        raise Invalid("Invalid assistant ID: must be a UUID")
    row = await get(services, principal, assistant_id)
    async with open_graph_of(services, principal, row) as graph:
        yield row.graph_id, graph


@asynccontextmanager
async def open_graph_of(services: Services, principal: Principal, row: AssistantRow) -> AsyncIterator[Graph]:
    """The graph of an assistant that the caller may use, to be looked at."""
    config = config_of(
        owner=principal.owner,
        graph_id=row.graph_id,
        assistant_id=row.assistant_id,
        stored=row.config,
        headers=principal.headers,
        user=principal.user,
    )
    async with services.graphs.open(
        row.graph_id,
        owner=principal.owner,
        config=config,
        access="assistants.read",
        checkpointer=None,
        store=None,
    ) as graph:
        yield graph


def id_of(graphs: Graphs, text: str) -> UUID | None:
    """The id of the assistant that a graph's id or a UUID names; None for what can be neither."""
    if text in graphs:
        return system_id(text)
    try:
        return UUID(text)
    except ValueError:
        return None


def _mirror(config: dict[str, Any], context: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Whichever of `config.configurable` and `context` is given becomes the other as well."""
    configurable = config.get("configurable")
    if configurable and context:
        raise BadRequest(CONFIG_OR_CONTEXT)
    if context:
        return {**config, "configurable": context}, context
    return config, configurable or {}


def _changes(body: AssistantPatch) -> dict[str, Any]:
    """What `queries.update` is to do."""
    config, context = body.config, body.context
    config_patch: dict[str, Any] = {}
    if config and config.get("configurable"):
        if context:
            raise BadRequest(CONFIG_OR_CONTEXT)
        context = config["configurable"]
    elif context is not None:
        config_patch = {"configurable": context}
    return {
        "graph_id": body.graph_id,
        "name": body.name,
        "description": body.description,
        "set_description": "description" in body.model_fields_set,
        "config": config,
        "config_patch": config_patch,
        "context": context,
        "metadata": body.metadata,
    }
