"""The memory over HTTP. Whatever changes it answers all of it."""

from __future__ import annotations

from fastapi import APIRouter, Response

from slackwater.identity.principal import CurrentPrincipal
from slackwater.web.http import CurrentServices, JsonRoute, json_response
from slackwater.workspace.memory import service
from slackwater.workspace.memory.models import FactChange, FactCreate, MemoryGiven

router = APIRouter(prefix="/api/memory", tags=["memory"], route_class=JsonRoute)


@router.get("")
async def get(services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """All that is remembered of the caller."""
    return json_response(await service.get(services, principal))


@router.delete("")
async def clear(services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """Forget all of it."""
    return json_response(await service.clear(services, principal))


@router.post("/reload")
async def reload(services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """The same as GET: no process keeps a copy that could be old."""
    return json_response(await service.get(services, principal))


@router.get("/export")
async def export(services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """All of it, for an import."""
    return json_response(await service.get(services, principal))


@router.post("/import")
async def import_(body: MemoryGiven, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """Remember an export instead of what there is."""
    return json_response(await service.import_(services, principal, body))


@router.get("/config")
async def config(services: CurrentServices) -> Response:
    """How the memory works: `gateway.memory` of `langgraph.json`."""
    return json_response(service.config(services))


@router.get("/status")
async def status(services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """How the memory works, and all that is remembered of the caller."""
    return json_response({"config": service.config(services), "data": await service.get(services, principal)})


@router.post("/facts")
async def add_fact(body: FactCreate, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """Remember one thing more."""
    return json_response(await service.add_fact(services, principal, body))


@router.patch("/facts/{fact_id}")
async def change_fact(
    fact_id: str, body: FactChange, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    """Change what is said of one thing."""
    return json_response(await service.change_fact(services, principal, fact_id, body))


@router.delete("/facts/{fact_id}")
async def delete_fact(fact_id: str, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """Forget one thing."""
    return json_response(await service.delete_fact(services, principal, fact_id))
