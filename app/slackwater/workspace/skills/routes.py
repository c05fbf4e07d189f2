"""Skills over HTTP."""

from __future__ import annotations

from fastapi import APIRouter, Response

from slackwater.identity.principal import CurrentPrincipal
from slackwater.web.http import CurrentServices, JsonRoute, json_response
from slackwater.workspace.skills import service
from slackwater.workspace.skills.models import RolledBack, SkillEdited, SkillInstalled, SkillSwitched
from slackwater.workspace.versions import IfMatch, Versioned

router = APIRouter(prefix="/api/skills", tags=["skills"], route_class=JsonRoute)


@router.get("")
async def list_(services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """Public skills and one's own."""
    return json_response({"skills": await service.list_(services, principal)})


@router.post("/install")
async def install(body: SkillInstalled, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """Install a skill from an archive among the files of a thread."""
    name = await service.install(services, principal, body)
    return json_response(
        {"success": True, "skill_name": name, "message": f"Skill '{name}' installed successfully"}
    )


@router.get("/custom")
async def list_custom(services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """One's own."""
    return json_response({"skills": await service.list_(services, principal, own=True)})


@router.get("/custom/{name}")
async def get_custom(name: str, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """One of one's own, with its content."""
    return _with_content(await service.get_custom(services, principal, name))


@router.put("/custom/{name}")
async def edit(
    name: str,
    body: SkillEdited,
    services: CurrentServices,
    principal: CurrentPrincipal,
    if_match: IfMatch = None,
) -> Response:
    """Replace the SKILL.md of one of one's own."""
    return _with_content(await service.edit(services, principal, name, body.content, if_match))


@router.delete("/custom/{name}")
async def delete(
    name: str, services: CurrentServices, principal: CurrentPrincipal, if_match: IfMatch = None
) -> Response:
    """Delete one of one's own. Its history stays, and it can be restored from there."""
    await service.delete(services, principal, name, if_match)
    return json_response({"success": True})


@router.get("/custom/{name}/history")
async def history(name: str, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """What was done to it, oldest first."""
    return json_response({"history": await service.history(services, principal, name)})


@router.post("/custom/{name}/rollback")
async def roll_back(
    name: str, body: RolledBack, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    """Make it again what it was before one of these changes."""
    return _with_content(await service.roll_back(services, principal, name, body.history_index))


@router.get("/{name}")
async def get(name: str, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """One of those that one has."""
    return json_response(await service.get(services, principal, name))


@router.put("/{name}")
async def switch(
    name: str, body: SkillSwitched, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    """Switch one on or off."""
    return json_response(await service.switch(services, principal, name, body))


def _with_content(skill: Versioned) -> Response:
    return json_response(skill.shown, headers={"ETag": skill.etag})
