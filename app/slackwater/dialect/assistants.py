"""The assistants of the dialect: those that there are, and behind them the caller's agents, as DeerFlow's gateway lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slackwater.api.assistants import service as assistants
from slackwater.dialect.service import default_graph
from slackwater.errors import NotFound
from slackwater.identity.principal import Principal
from slackwater.kit.json_format import timestamp
from slackwater.workspace.agents import service as agents

if TYPE_CHECKING:
    from slackwater.dialect.models import GatewayAssistantSearch
    from slackwater.postgres.pool import Row
    from slackwater.services import Services

METADATA = {"created_by": "user"}
"""Of an agent."""


async def search(
    services: Services, principal: Principal, body: GatewayAssistantSearch
) -> list[dict[str, Any]]:
    """One page and, where there is more, one of the next. Raises NotFound for an unknown graph."""
    found = [row.view() for row in await assistants.search(services, principal, body)]
    if (room := body.limit + 1 - len(found)) > 0 and (mine := await _agents(services, principal, body)):
        total = body.offset + len(found)
        if body.offset and not found:
            total = await assistants.count(services, principal, body)
        found += mine[max(0, body.offset - total) :][:room]
    return [{name: one[name] for name in body.select} for one in found] if body.select else found


async def get(services: Services, principal: Principal, asked: str) -> dict[str, Any]:
    """One of them, by its id, that of its graph, or the name of an agent. Raises NotFound."""
    if assistants.id_of(services.graphs, asked) is not None:
        return (await assistants.resolve(services, principal, asked)).view()
    return _shown(await _agent(services, principal, asked), default_graph(services.graphs))


async def graph_of(services: Services, principal: Principal, asked: str) -> str:
    """What has the graph of one of them: itself, or the default graph. Raises NotFound."""
    if assistants.id_of(services.graphs, asked) is not None:
        return asked
    await _agent(services, principal, asked)
    default = default_graph(services.graphs)
    assert default is not None, "there is an agent"
    return default


async def _agents(
    services: Services, principal: Principal, body: GatewayAssistantSearch
) -> list[dict[str, Any]]:
    default = default_graph(services.graphs)
    if default is None or body.graph_id not in (None, default):
        return []
    if any(METADATA.get(key) != value for key, value in body.metadata.items()):
        return []
    rows = await agents.rows(services, principal)
    return [_shown(row, default) for row in rows if (body.name or "").lower() in row["name"]]


async def _agent(services: Services, principal: Principal, asked: str) -> Row:
    name = asked.lower().replace("_", "-")
    rows = await agents.rows(services, principal) if default_graph(services.graphs) is not None else []
    for row in rows:
        if row["name"] == name:
            return row
    raise NotFound(f"Assistant {asked} not found")


def _shown(row: Row, graph_id: str | None) -> dict[str, Any]:
    return {
        "assistant_id": row["name"],
        "graph_id": graph_id,
        "config": {},
        "context": {},
        "metadata": METADATA,
        "name": row["name"],
        "created_at": timestamp(row["created_at"]),
        "updated_at": timestamp(row["updated_at"]),
        "version": row["version"],
        "description": row["description"],
    }
