"""Runs: in the background, streamed, waited for, joined, cancelled; on a thread or without one."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response

from slackwater.api.runs import service
from slackwater.api.runs.models import RUN_FIELDS, Cancel, RunBatch, RunCreate, shown
from slackwater.api.runs.reading import (
    Reading,
    cancels_run,
    is_true,
    joined,
    modes_of,
    streamed,
    values_of,
    waited,
)
from slackwater.errors import Invalid, JoinAgain, NotFound, RefusedByAuth
from slackwater.identity.principal import CurrentPrincipal
from slackwater.kit import json_format, sse
from slackwater.kit.fields import OFFSET_MAX
from slackwater.kit.ids import parse_uuid
from slackwater.runtime.queue.cancel import CancelAction
from slackwater.web.http import CurrentServices, JsonRoute, json_response
from slackwater.web.streams.bounds import CurrentBounds

router = APIRouter(tags=["runs"], route_class=JsonRoute)

IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key")]
LastEventId = Annotated[str | None, Header(alias="Last-Event-ID")]
Status = Literal["pending", "running", "success", "error", "timeout", "interrupted"]


@router.post("/threads/{thread_id}/runs")
async def create_run(
    thread_id: str,
    body: RunCreate,
    services: CurrentServices,
    principal: CurrentPrincipal,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Start a run in the background."""
    created = await service.create(services, principal, thread_id, body, idempotency_key)
    return json_response(shown(created.row), headers={"content-location": created.content_location})


@router.post("/runs")
async def create_stateless_run(
    body: RunCreate,
    services: CurrentServices,
    principal: CurrentPrincipal,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Start a run in the background, on a hidden thread of its own."""
    created = await service.create(services, principal, None, body, idempotency_key)
    return json_response(shown(created.row), headers={"content-location": created.content_location})


@router.post("/threads/{thread_id}/runs/stream")
async def stream_run(
    thread_id: str,
    body: RunCreate,
    services: CurrentServices,
    principal: CurrentPrincipal,
    bounds: CurrentBounds,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Start a run and stream its events (SSE) until it ends."""
    created = await service.create(services, principal, thread_id, body, idempotency_key, told=True)
    return await streamed(Reading.of(created, services, bounds), created.content_location)


@router.post("/runs/stream")
async def stream_stateless_run(
    body: RunCreate,
    services: CurrentServices,
    principal: CurrentPrincipal,
    bounds: CurrentBounds,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Start a run without a thread and stream its events (SSE) until it ends."""
    created = await service.create(services, principal, None, body, idempotency_key, told=True)
    return await streamed(Reading.of(created, services, bounds), created.content_location)


@router.post("/threads/{thread_id}/runs/wait")
async def wait_for_run(
    thread_id: str,
    body: RunCreate,
    services: CurrentServices,
    principal: CurrentPrincipal,
    bounds: CurrentBounds,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Start a run and wait for its final values."""
    created = await service.create(services, principal, thread_id, body, idempotency_key, told=True)
    return await waited(Reading.of(created, services, bounds))


@router.post("/runs/wait")
async def wait_for_stateless_run(
    body: RunCreate,
    services: CurrentServices,
    principal: CurrentPrincipal,
    bounds: CurrentBounds,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Start a run without a thread and wait for its final values."""
    created = await service.create(services, principal, None, body, idempotency_key, told=True)
    return await waited(Reading.of(created, services, bounds))


@router.post("/runs/batch")
async def create_batch(body: RunBatch, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """Start several runs in the background, each on a hidden thread of its own: all of them or none."""
    return json_response([shown(row) for row in await service.create_batch(services, principal, body)])


@router.post("/runs/cancel", status_code=204)
async def cancel_runs(
    body: Cancel,
    services: CurrentServices,
    principal: CurrentPrincipal,
    action: CancelAction = CancelAction.INTERRUPT,
) -> Response:
    """Cancel several runs of a thread, or all of the caller's runs with a status."""
    if body.thread_id is not None and body.run_ids is not None:
        await service.cancel(services, principal, body.thread_id, body.run_ids, action, service.BULK_REASON)
    else:
        await service.cancel_all(services, principal, body.status or "all", action)
    return Response(status_code=204)


@router.get("/threads/{thread_id}/runs")
async def list_runs(
    thread_id: str,
    services: CurrentServices,
    principal: CurrentPrincipal,
    limit: Annotated[int, Query(ge=1, le=1000)] = 10,
    offset: Annotated[int, Query(ge=0, le=OFFSET_MAX)] = 0,
    status: Status | None = None,
    select: Annotated[list[str] | None, Query()] = None,
) -> Response:
    """The thread's runs, newest first."""
    if select and (unknown := sorted(set(select) - set(RUN_FIELDS))):
        raise Invalid(f"Invalid select columns: {unknown}")
    rows = await service.list_(services, principal, thread_id, status=status, limit=limit, offset=offset)
    return json_response([{name: row[name] for name in select} for row in rows] if select else rows)


@router.get("/threads/{thread_id}/runs/{run_id}")
async def get_run(
    thread_id: str, run_id: str, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    """One run."""
    return json_response(shown(await service.get(services, principal, thread_id, run_id)))


@router.delete("/threads/{thread_id}/runs/{run_id}", status_code=204)
async def delete_run(
    thread_id: str, run_id: str, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    """Delete a run, its checkpoints and its events."""
    await service.delete(services, principal, thread_id, run_id)
    return Response(status_code=204)


@router.post("/threads/{thread_id}/runs/{run_id}/cancel")
async def cancel_run(
    thread_id: str,
    run_id: str,
    services: CurrentServices,
    principal: CurrentPrincipal,
    bounds: CurrentBounds,
    wait: str = "false",
    action: str = "interrupt",
) -> Response:
    """Cancel a run: 202 at once or, with `wait`, 200 and its last values when it has stopped."""
    wish = CancelAction.ROLLBACK if action == CancelAction.ROLLBACK.value else CancelAction.INTERRUPT
    principal = await service.cancel(services, principal, thread_id, [run_id], wish)
    if not is_true(wait):
        return Response(status_code=202)
    thread, run = parse_uuid(thread_id, "thread"), parse_uuid(run_id, "run")
    return await waited(Reading(services, principal, thread, run, bounds))


@router.get("/threads/{thread_id}/runs/{run_id}/join")
async def join_run(
    thread_id: str,
    run_id: str,
    services: CurrentServices,
    principal: CurrentPrincipal,
    bounds: CurrentBounds,
    cancel_on_disconnect: str = "false",
) -> Response:
    """Wait for a run's final values, whichever process executes it."""
    thread, run = parse_uuid(thread_id, "thread"), parse_uuid(run_id, "run")
    cancels = cancels_run(cancel_on_disconnect, principal)
    reading = await Reading.find(services, principal, thread, run, bounds, cancels)
    if reading is None:
        return json_response({"__error__": service.NOT_FOUND})
    return await values_of(reading, JoinAgain())


@router.get("/threads/{thread_id}/runs/{run_id}/stream")
async def join_run_stream(
    thread_id: str,
    run_id: str,
    services: CurrentServices,
    principal: CurrentPrincipal,
    bounds: CurrentBounds,
    stream_mode: str | None = None,
    cancel_on_disconnect: str = "false",
    reader: Annotated[UUID | None, Query(include_in_schema=False)] = None,
    last_event_id: LastEventId = None,
) -> Response:
    """Read a run's events (SSE): those after `Last-Event-ID`, `-1` being all; without it only what comes from now on."""
    thread, run = parse_uuid(thread_id, "thread"), parse_uuid(run_id, "run")
    modes = modes_of(stream_mode)
    cancels = cancels_run(cancel_on_disconnect, principal)
    try:
        reading = await Reading.find(services, principal, thread, run, bounds, cancels)
    except (NotFound, RefusedByAuth) as error:
        # Officially, too, who joins a stream learns of it in the stream.
        return _error({"error": "HTTPException", "message": f"{error.status}: {error.message}"})
    if reading is None:
        return _error(service.NOT_FOUND)
    return await joined(reading, modes, last_event_id, reader)


def _error(shown: object) -> Response:
    """A stream of one event."""
    return Response(
        sse.frame("error", json_format.dumps(shown), None), headers=sse.HEADERS, media_type=sse.MEDIA_TYPE
    )
