"""Recorded messages over HTTP."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from slackwater.identity.principal import CurrentPrincipal
from slackwater.web.http import CurrentServices, JsonRoute, json_response
from slackwater.workspace.feedback import service as feedback
from slackwater.workspace.messages import service
from slackwater.workspace.messages.queries import Cut

router = APIRouter(prefix="/api", tags=["messages"], route_class=JsonRoute)

SEQ_MAX = 2**63 - 1

Limit = Annotated[int, Query(ge=1, le=200)]
Seq = Annotated[int | None, Query(ge=0, le=SEQ_MAX)]


@router.get("/threads/{thread_id}/messages")
async def of_thread(
    thread_id: str,
    services: CurrentServices,
    principal: CurrentPrincipal,
    limit: Limit = 50,
    before_seq: Seq = None,
    after_seq: Seq = None,
) -> Response:
    """The messages of all runs of a thread, in order: the last ones, or those next to a `seq`."""
    rows = await service.of_thread(services, principal, thread_id, Cut(limit, before_seq, after_seq))
    runs = list({row["run_id"] for row in rows})
    given = await feedback.of_runs(services, principal.owner, runs) if runs else {}
    last = await service.last_answers(services, given)
    return json_response(service.with_feedback(rows, given, last))


@router.get("/threads/{thread_id}/runs/{run_id}/messages")
async def of_run(
    thread_id: str,
    run_id: str,
    services: CurrentServices,
    principal: CurrentPrincipal,
    limit: Limit = 50,
    before_seq: Seq = None,
    after_seq: Seq = None,
) -> Response:
    """The messages of a run, in order: the last ones, or those next to a `seq`."""
    cut = Cut(limit, before_seq, after_seq)
    return json_response(await service.of_run(services, principal, thread_id, run_id, cut))


@router.get("/threads/{thread_id}/runs/{run_id}/events")
async def events(
    thread_id: str,
    run_id: str,
    services: CurrentServices,
    principal: CurrentPrincipal,
    event_types: Annotated[str | None, Query(max_length=2000)] = None,
    limit: Annotated[int, Query(ge=1, le=2000)] = 500,
    after_seq: Annotated[int, Query(ge=0, le=SEQ_MAX)] = 0,
) -> Response:
    """What was recorded of a run, messages or not, in order; `event_types` are separated by commas."""
    return json_response(
        await service.events(
            services, principal, thread_id, run_id, types=event_types, after=after_seq, limit=limit
        )
    )


@router.get("/runs/{run_id}/messages")
async def of_run_alone(
    run_id: str,
    services: CurrentServices,
    principal: CurrentPrincipal,
    limit: Limit = 50,
    before_seq: Seq = None,
    after_seq: Seq = None,
) -> Response:
    """The messages of a run whose thread one need not know."""
    thread_id = await service.thread_of_run(services, run_id)
    cut = Cut(limit, before_seq, after_seq)
    return json_response(await service.of_run(services, principal, thread_id, run_id, cut))
