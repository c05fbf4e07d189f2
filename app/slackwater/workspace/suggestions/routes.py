"""Suggestions over HTTP."""

from __future__ import annotations

from fastapi import APIRouter, Response

from slackwater.identity.principal import CurrentPrincipal
from slackwater.kit.ids import parse_canonical
from slackwater.web.http import CurrentServices, JsonRoute, json_response
from slackwater.workspace.suggestions import service
from slackwater.workspace.suggestions.models import SuggestionsWanted

router = APIRouter(prefix="/api/threads", tags=["suggestions"], route_class=JsonRoute)


@router.post("/{thread_id}/suggestions")
async def suggest(
    thread_id: str, body: SuggestionsWanted, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    """What the user may ask next, as a model suggests it; nothing if it cannot."""
    found = await service.suggest(services, principal, parse_canonical(thread_id, "thread"), body)
    return json_response({"suggestions": found})
