"""Assistants over HTTP."""

from __future__ import annotations

from fastapi import APIRouter, Response

from slackwater.api.assistants import service
from slackwater.api.assistants.models import (
    AssistantCreate,
    AssistantFilter,
    AssistantPatch,
    AssistantSearch,
    Latest,
    VersionSearch,
    depth_of,
)
from slackwater.api.assistants.row import page_of
from slackwater.errors import Invalid
from slackwater.graphs import topology
from slackwater.identity.principal import CurrentPrincipal
from slackwater.kit.ids import parse_uuid
from slackwater.web.http import CurrentServices, JsonRoute, json_response, pagination

router = APIRouter(prefix="/assistants", tags=["assistants"], route_class=JsonRoute)


@router.post("")
async def create(body: AssistantCreate, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """Create an assistant."""
    row = await service.create(services, principal, body)
    return json_response(row.view())


@router.post("/search")
async def search(body: AssistantSearch, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """Search assistants; returns one page."""
    rows = await service.search(services, principal, body)
    return json_response(page_of(rows, body), headers=pagination(body.limit, body.offset, len(rows)))


@router.post("/count")
async def count(body: AssistantFilter, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """Count the matching assistants."""
    return json_response(await service.count(services, principal, body))


@router.get("/{assistant_id}")
async def get(assistant_id: str, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """One assistant."""
    row = await service.get(services, principal, parse_uuid(assistant_id, "assistant"))
    return json_response(row.view())


@router.patch("/{assistant_id}")
async def patch(
    assistant_id: str, body: AssistantPatch, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    """Create a new version of an assistant; fields that are not sent stay as they are."""
    row = await service.patch(services, principal, parse_uuid(assistant_id, "assistant"), body)
    return json_response(row.view())


@router.delete("/{assistant_id}")
async def delete(
    assistant_id: str, services: CurrentServices, principal: CurrentPrincipal, delete_threads: bool = False
) -> Response:
    """Delete an assistant; its runs continue."""
    if delete_threads:
        # Better refused than believed to have been done.
        raise Invalid("delete_threads is not supported: delete the threads one by one")
    await service.delete(services, principal, parse_uuid(assistant_id, "assistant"))
    return Response(status_code=204)


@router.post("/{assistant_id}/versions")
async def versions(
    assistant_id: str, body: VersionSearch, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    """An assistant's versions, newest first."""
    rows = await service.versions(services, principal, parse_uuid(assistant_id, "assistant"), body)
    return json_response([row.version_view() for row in rows])


@router.post("/{assistant_id}/latest")
async def set_latest(
    assistant_id: str, body: Latest, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    """Make a version of an assistant the one that runs use."""
    assistant = parse_uuid(assistant_id, "assistant")
    row = await service.set_latest(services, principal, assistant, body.version)
    return json_response(row.view())


@router.get("/{assistant_id}/graph")
async def graph(
    assistant_id: str, services: CurrentServices, principal: CurrentPrincipal, xray: str = ""
) -> Response:
    """A drawing of an assistant's graph."""
    depth = depth_of(xray)
    async with service.open_graph(services, principal, assistant_id) as (_, opened):
        return json_response(await topology.drawing(opened, depth))


@router.get("/{assistant_id}/schemas")
async def schemas(assistant_id: str, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """The JSON schemas of an assistant's graph."""
    parse_uuid(assistant_id, "assistant")
    async with service.open_graph(services, principal, assistant_id) as (graph_id, opened):
        return json_response({"graph_id": graph_id, **topology.schemas(opened)})


@router.get("/{assistant_id}/subgraphs")
@router.get("/{assistant_id}/subgraphs/{namespace}")
async def subgraphs(
    assistant_id: str,
    services: CurrentServices,
    principal: CurrentPrincipal,
    namespace: str | None = None,
    recurse: str = "",
) -> Response:
    """The JSON schemas of the subgraphs of an assistant's graph."""
    parse_uuid(assistant_id, "assistant")
    async with service.open_graph(services, principal, assistant_id) as (_, opened):
        return json_response(await topology.subgraphs(opened, namespace, recurse in ("true", "True")))
