"""Crons over HTTP."""

from __future__ import annotations

from fastapi import APIRouter, Response

from slackwater.api.crons import service
from slackwater.api.crons.models import CronCreate, CronFilter, CronPatch, CronSearch, view
from slackwater.identity.principal import CurrentPrincipal
from slackwater.kit.ids import parse_uuid
from slackwater.web.http import CurrentServices, JsonRoute, json_response, pagination

router = APIRouter(tags=["crons"], route_class=JsonRoute)


@router.post("/runs/crons")
async def create(body: CronCreate, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """Create a cron: start runs on a schedule, each on a thread of its own."""
    return json_response(view(await service.create(services, principal, None, body)))


@router.post("/threads/{thread_id}/runs/crons")
async def create_for_thread(
    thread_id: str, body: CronCreate, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    """Create a cron: start runs on a schedule, all on one thread."""
    return json_response(view(await service.create(services, principal, thread_id, body)))


@router.post("/runs/crons/search")
async def search(body: CronSearch, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """Search crons; returns one page."""
    rows = await service.search(services, principal, body)
    views = [view(row) for row in rows[: body.limit]]
    if body.select:
        views = [{name: shown[name] for name in body.select} for shown in views]
    return json_response(views, headers=pagination(body.limit, body.offset, len(rows)))


@router.post("/runs/crons/count")
async def count(body: CronFilter, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """Count the matching crons."""
    return json_response(await service.count(services, principal, body))


@router.get("/runs/crons/{cron_id}")
async def get(cron_id: str, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """One cron."""
    return json_response(view(await service.get(services, principal, parse_uuid(cron_id, "cron"))))


@router.patch("/runs/crons/{cron_id}")
async def patch(
    cron_id: str, body: CronPatch, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    """Change a cron; fields that are not sent stay as they are."""
    return json_response(view(await service.patch(services, principal, parse_uuid(cron_id, "cron"), body)))


@router.delete("/runs/crons/{cron_id}")
async def delete(cron_id: str, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """Delete a cron; runs that it started continue."""
    await service.delete(services, principal, parse_uuid(cron_id, "cron"))
    return Response(status_code=204)
