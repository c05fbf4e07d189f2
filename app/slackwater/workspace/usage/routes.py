"""Token counts over HTTP."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from slackwater.identity.principal import CurrentPrincipal
from slackwater.web.http import CurrentServices, JsonRoute, json_response
from slackwater.workspace.usage import service

router = APIRouter(prefix="/api", tags=["usage"], route_class=JsonRoute)


@router.get("/threads/{thread_id}/token-usage")
async def of_thread(
    thread_id: str, services: CurrentServices, principal: CurrentPrincipal, include_active: bool = False
) -> Response:
    """What the ended runs of a thread have used, and with `include_active` those that go on."""
    return json_response(
        await service.of_thread(services, principal, thread_id, include_active=include_active)
    )


@router.get("/usage")
async def by_day(
    services: CurrentServices,
    principal: CurrentPrincipal,
    days: Annotated[int, Query(ge=1, le=366)] = 30,
) -> Response:
    """What the caller has used in the last days, today included, by day (UTC) and model."""
    return json_response(await service.by_day(services, principal, days))
