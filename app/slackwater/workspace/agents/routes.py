"""Agents and the user's profile over HTTP."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from slackwater.identity.principal import CurrentPrincipal
from slackwater.web.http import CurrentServices, JsonRoute, json_response
from slackwater.workspace.agents import service
from slackwater.workspace.agents.models import AgentChanged, AgentMade, ProfileWritten
from slackwater.workspace.versions import IfMatch, Versioned

router = APIRouter(prefix="/api", tags=["agents"], route_class=JsonRoute)


@router.get("/agents")
async def list_(services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """One's agents, by name."""
    return json_response({"agents": await service.list_(services, principal)})


@router.post("/agents")
async def create(body: AgentMade, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """Make an agent."""
    return _answer(await service.create(services, principal, body), 201)


@router.get("/agents/check")
async def check(
    name: Annotated[str, Query()], services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    """Whether an agent can still be called that."""
    return json_response(await service.check(services, principal, name))


@router.get("/agents/{name}")
async def get(name: str, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """One of them."""
    return _answer(await service.get(services, principal, name))


@router.put("/agents/{name}")
async def change(
    name: str,
    body: AgentChanged,
    services: CurrentServices,
    principal: CurrentPrincipal,
    if_match: IfMatch = None,
) -> Response:
    """Change what the body says of it."""
    return _answer(await service.change(services, principal, name, body, if_match))


@router.delete("/agents/{name}")
async def delete(
    name: str, services: CurrentServices, principal: CurrentPrincipal, if_match: IfMatch = None
) -> Response:
    """Delete it."""
    await service.delete(services, principal, name, if_match)
    return Response(status_code=204)


@router.get("/user-profile")
async def get_profile(services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """What one says of oneself to one's agents."""
    return _answer(await service.profile(services, principal))


@router.put("/user-profile")
async def put_profile(
    body: ProfileWritten,
    services: CurrentServices,
    principal: CurrentPrincipal,
    if_match: IfMatch = None,
) -> Response:
    """Say something else."""
    return _answer(await service.write_profile(services, principal, body, if_match))


def _answer(found: Versioned, status: int = 200) -> Response:
    return json_response(found.shown, status, {"ETag": found.etag})
