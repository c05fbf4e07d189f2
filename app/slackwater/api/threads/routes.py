"""Threads and their states over HTTP."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Header, Query, Response

from slackwater.api.threads import service, state, streaming
from slackwater.api.threads.models import (
    Checkpoint,
    HistorySearch,
    Prune,
    StateAt,
    StateField,
    StateUpdate,
    ThreadCreate,
    ThreadFilter,
    ThreadPatch,
    ThreadSearch,
    view,
)
from slackwater.graphs.snapshot import select_from
from slackwater.identity.principal import CurrentPrincipal
from slackwater.kit import sse
from slackwater.kit.ids import parse_uuid
from slackwater.web.http import CurrentServices, JsonRoute, json_response, pagination
from slackwater.web.streams.bounds import CurrentBounds
from slackwater.web.streams.response import thread_answer

router = APIRouter(prefix="/threads", tags=["threads"], route_class=JsonRoute)

Select = Annotated[list[StateField], Query()]


@router.post("")
async def create(body: ThreadCreate, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """Create a thread, with a state if `supersteps` are given."""
    draft = state.draft if body.supersteps else None
    return json_response(view(await service.create(services, principal, body, draft)))


@router.post("/search")
async def search(body: ThreadSearch, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """Search threads; returns one page."""
    rows = await service.search(services, principal, body)
    page = [view(row) for row in rows[: body.limit]]
    return json_response(page, headers=pagination(body.limit, body.offset, len(rows)))


@router.post("/count")
async def count(body: ThreadFilter, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """Count the matching threads."""
    return json_response(await service.count(services, principal, body))


@router.post("/prune")
async def prune(body: Prune, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """Delete threads or their history: all of it or nothing."""
    return json_response({"pruned_count": await service.prune(services, principal, body)})


@router.get("/{thread_id}")
async def get(
    thread_id: str,
    services: CurrentServices,
    principal: CurrentPrincipal,
    include: Annotated[list[str] | None, Query()] = None,
) -> Response:
    """One thread."""
    thread = parse_uuid(thread_id, "thread")
    shown = view(await service.get(services, principal, thread))
    if "ttl" in ",".join(include or []).split(","):
        shown["ttl"] = await service.ttl(services, principal, thread)
    return json_response(shown)


@router.get("/{thread_id}/storage")
async def storage(thread_id: str, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """The size of a thread in the database, in bytes."""
    return json_response(await service.storage(services, principal, parse_uuid(thread_id, "thread")))


@router.patch("/{thread_id}")
async def patch(
    thread_id: str,
    body: ThreadPatch,
    services: CurrentServices,
    principal: CurrentPrincipal,
    prefer: Annotated[str, Header()] = "",
) -> Response:
    """Merge metadata into a thread, or change its time to live."""
    row = await service.patch(services, principal, parse_uuid(thread_id, "thread"), body)
    if "return=minimal" in prefer:
        return Response(status_code=204, headers={"Preference-Applied": "return=minimal"})
    return json_response(view(row))


@router.delete("/{thread_id}")
async def delete(thread_id: str, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """Delete a thread and everything that belongs to it, stopping its runs."""
    await service.delete(services, principal, parse_uuid(thread_id, "thread"))
    return Response(status_code=204)


@router.post("/{thread_id}/copy")
async def copy(thread_id: str, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """Create a thread with the metadata and history of another."""
    return json_response(view(await service.copy(services, principal, parse_uuid(thread_id, "thread"))))


@router.get("/{thread_id}/stream")
async def stream(
    thread_id: str,
    services: CurrentServices,
    principal: CurrentPrincipal,
    bounds: CurrentBounds,
    stream_modes: Annotated[list[str] | None, Query()] = None,
    stream_mode: Annotated[list[str] | None, Query()] = None,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
) -> Response:
    """Read what happens on a thread (SSE), run after run: what follows `Last-Event-ID`, `-` being all.

    Without it, only new events are sent.
    """
    thread = parse_uuid(thread_id, "thread")
    modes = streaming.parse_modes([*(stream_modes or ()), *(stream_mode or ())])
    cursor = None if last_event_id is None else streaming.parse_cursor(last_event_id)
    principal = await service.reader_of(services, principal, thread)
    if cursor is None:
        cursor = await services.runtime.thread_log.newest(principal.owner, thread)
    query = urlencode({"stream_modes": ",".join(sorted(modes))})
    headers = {**sse.HEADERS, "location": f"/threads/{thread}/stream?{query}"}
    chunks = (
        streaming.frames(services, principal, thread, cursor, modes)
        if bounds is None
        else streaming.page(services, principal, thread, cursor, modes, bounds)
    )
    return await thread_answer(chunks, headers, services.settings, bounds)


@router.get("/{thread_id}/state")
async def get_state(
    thread_id: str,
    services: CurrentServices,
    principal: CurrentPrincipal,
    subgraphs: bool = False,
    select: Select = [],  # noqa: B006 - FastAPI copies it
) -> Response:
    """The newest state of a thread."""
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
    """The state of a thread at a checkpoint."""
    at = Checkpoint(checkpoint_id=checkpoint_id)
    found = await state.read(services, principal, parse_uuid(thread_id, "thread"), at, subgraphs=subgraphs)
    return json_response(select_from(found, select))


@router.post("/{thread_id}/state/checkpoint")
async def post_state_at(
    thread_id: str, body: StateAt, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    """The state of a thread, or of a subgraph, at a checkpoint."""
    found = await state.read(
        services, principal, parse_uuid(thread_id, "thread"), body.checkpoint, subgraphs=body.subgraphs
    )
    return json_response(select_from(found, body.select))


@router.post("/{thread_id}/state")
async def update_state(
    thread_id: str, body: StateUpdate, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    """Update a thread's state as if a node had written it."""
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
    """A thread's states, newest first."""
    at = str(parse_uuid(before, "checkpoint")) if before is not None else None
    query = HistorySearch(limit=limit, before=at, select=select)
    return await post_history(thread_id, query, services, principal)


@router.post("/{thread_id}/history")
async def post_history(
    thread_id: str, body: HistorySearch, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    """Search a thread's states, newest first."""
    return json_response(await state.history(services, principal, parse_uuid(thread_id, "thread"), body))
