"""Threads and their states over HTTP."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from app.auth.principal import CurrentPrincipal
from app.graphs.snapshot import select_from
from app.http import CurrentServices, JsonRoute, json_response, pagination
from app.ids import parse_uuid
from app.threads import service, state
from app.threads.models import (
    Checkpoint,
    HistorySearch,
    StateAt,
    StateField,
    StateUpdate,
    ThreadCreate,
    ThreadFilter,
    ThreadPatch,
    ThreadSearch,
    view,
)

router = APIRouter(prefix="/threads", tags=["threads"], route_class=JsonRoute)

Select = Annotated[list[StateField], Query()]


@router.post("")
async def create(body: ThreadCreate, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    return json_response(view(await service.create(services, principal, body)))


@router.post("/search")
async def search(body: ThreadSearch, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    rows = await service.search(services, principal, body)
    page = [view(row) for row in rows[: body.limit]]
    return json_response(page, headers=pagination(body.limit, body.offset, len(rows)))


@router.post("/count")
async def count(body: ThreadFilter, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    return json_response(await service.count(services, principal, body))


@router.get("/{thread_id}")
async def get(thread_id: str, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    return json_response(view(await service.get(services, principal, parse_uuid(thread_id, "thread"))))


@router.patch("/{thread_id}")
async def patch(
    thread_id: str,
    body: ThreadPatch,
    services: CurrentServices,
    principal: CurrentPrincipal,
    prefer: Annotated[str, Header()] = "",
) -> Response:
    row = await service.patch(services, principal, parse_uuid(thread_id, "thread"), body)
    if "return=minimal" in prefer:
        return Response(status_code=204, headers={"Preference-Applied": "return=minimal"})
    return json_response(view(row))


@router.delete("/{thread_id}")
async def delete(thread_id: str, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    await service.delete(services, principal, parse_uuid(thread_id, "thread"))
    return Response(status_code=204)


@router.post("/{thread_id}/copy")
async def copy(thread_id: str, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    return json_response(view(await service.copy(services, principal, parse_uuid(thread_id, "thread"))))


@router.get("/{thread_id}/state")
async def get_state(
    thread_id: str,
    services: CurrentServices,
    principal: CurrentPrincipal,
    subgraphs: bool = False,
    select: Select = [],  # noqa: B006 - FastAPI copies it
) -> Response:
    found = await state.read(services, principal, parse_uuid(thread_id, "thread"), subgraphs=subgraphs)
    return json_response(select_from(found, select))


@router.get("/{thread_id}/state/{checkpoint_id}")
async def get_state_at(
    thread_id: str,
    checkpoint_id: str,
    services: CurrentServices,
    principal: CurrentPrincipal,
    subgraphs: bool = False,
    select: Select = [],  # noqa: B006 - FastAPI copies it
) -> Response:
    at = Checkpoint(checkpoint_id=checkpoint_id)
    found = await state.read(services, principal, parse_uuid(thread_id, "thread"), at, subgraphs=subgraphs)
    return json_response(select_from(found, select))


@router.post("/{thread_id}/state/checkpoint")
async def post_state_at(
    thread_id: str, body: StateAt, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    found = await state.read(
        services, principal, parse_uuid(thread_id, "thread"), body.checkpoint, subgraphs=body.subgraphs
    )
    return json_response(select_from(found, body.select))


@router.post("/{thread_id}/state")
async def update_state(
    thread_id: str, body: StateUpdate, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    return json_response(await state.update(services, principal, parse_uuid(thread_id, "thread"), body))


@router.get("/{thread_id}/history")
async def get_history(
    thread_id: str,
    services: CurrentServices,
    principal: CurrentPrincipal,
    limit: Annotated[int, Query(ge=1, le=1000)] = 1,
    before: str | None = None,
    select: Select = [],  # noqa: B006 - FastAPI copies it
) -> Response:
    at = str(parse_uuid(before, "checkpoint")) if before else None
    query = HistorySearch(limit=limit, before=at, select=select)
    return await post_history(thread_id, query, services, principal)


@router.post("/{thread_id}/history")
async def post_history(
    thread_id: str, body: HistorySearch, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    found = await state.history(services, principal, parse_uuid(thread_id, "thread"), body)
    return json_response([select_from(one, body.select) for one in found])
