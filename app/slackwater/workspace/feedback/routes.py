"""Feedback over HTTP."""

from __future__ import annotations

from fastapi import APIRouter, Response

from slackwater.identity.principal import CurrentPrincipal
from slackwater.web.http import CurrentServices, JsonRoute, json_response
from slackwater.workspace.feedback import service
from slackwater.workspace.feedback.models import FeedbackGiven
from slackwater.workspace.messages import service as messages

router = APIRouter(prefix="/api", tags=["feedback"], route_class=JsonRoute)

_OF_RUN = "/threads/{thread_id}/runs/{run_id}/feedback"


@router.post(_OF_RUN)
@router.put(_OF_RUN)
async def give(
    thread_id: str,
    run_id: str,
    body: FeedbackGiven,
    services: CurrentServices,
    principal: CurrentPrincipal,
) -> Response:
    """Say what one thinks of a run or a message, instead of what one has said before."""
    return json_response(await service.give(services, principal, thread_id, run_id, body))


@router.get(_OF_RUN)
async def list_(
    thread_id: str, run_id: str, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    """What one has said of a run and its messages."""
    return json_response(await service.list_(services, principal, thread_id, run_id))


@router.get(_OF_RUN + "/stats")
async def stats(
    thread_id: str, run_id: str, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    """How many have said what of a run."""
    return json_response(await service.stats(services, principal, thread_id, run_id))


@router.delete(_OF_RUN)
async def delete_all(
    thread_id: str, run_id: str, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    """Take back what one has said of a run and its messages."""
    await service.take_back(services, principal, thread_id, run_id)
    return json_response({"success": True})


@router.delete(_OF_RUN + "/{feedback}")
async def delete(
    thread_id: str,
    run_id: str,
    feedback: str,
    services: CurrentServices,
    principal: CurrentPrincipal,
) -> Response:
    """Take back one thing that one has said."""
    await service.take_back(services, principal, thread_id, run_id, feedback)
    return json_response({"success": True})


@router.get("/runs/{run_id}/feedback")
async def list_of_run(run_id: str, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """What one has said of a run whose thread one need not know."""
    thread_id = await messages.thread_of_run(services, run_id)
    return json_response(await service.list_(services, principal, thread_id, run_id))
