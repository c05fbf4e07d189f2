"""The dialect over HTTP."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response

from slackwater.api.assistants import service as assistants
from slackwater.api.assistants.models import depth_of
from slackwater.api.runs import service as runs
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
from slackwater.api.threads import service as threads
from slackwater.api.threads import state
from slackwater.api.threads.models import HistorySearch, StateUpdate, ThreadPatch
from slackwater.dialect import assistants as of_dialect
from slackwater.dialect import service, view
from slackwater.dialect.models import (
    GatewayAssistantSearch,
    GatewayHistory,
    GatewayRun,
    GatewayStateUpdate,
    GatewayThread,
    GatewayThreadPatch,
    GatewayThreadSearch,
)
from slackwater.errors import CancelByPost, JoinAgain
from slackwater.graphs import topology
from slackwater.identity.permissions import Permission
from slackwater.identity.principal import CurrentPrincipal
from slackwater.kit.fields import OFFSET_MAX
from slackwater.kit.ids import parse_canonical, parse_uuid
from slackwater.runtime.queue.cancel import CancelAction
from slackwater.web.http import CurrentServices, JsonRoute, json_response, pagination
from slackwater.web.route_table import GATEWAY
from slackwater.web.streams.bounds import CurrentBounds
from slackwater.workspace.usage import service as usage

router = APIRouter(prefix=GATEWAY, tags=["dialect"], route_class=JsonRoute)

IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key")]
LastEventId = Annotated[str | None, Header(alias="Last-Event-ID")]
Reader = Annotated[UUID | None, Query(include_in_schema=False)]


# Threads


@router.post("/threads")
async def create_thread(
    body: GatewayThread, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    """Create a thread; one's own that has the id already is returned."""
    return json_response(view.thread(await service.create_thread(services, principal, body)))


@router.post("/threads/search")
async def search_threads(
    body: GatewayThreadSearch, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    """Search threads; returns one page. Of their values, only `title` is shown."""
    rows = await service.search_threads(services, principal, body)
    page = [view.found_thread(row, list(body.select)) for row in rows[: body.limit]]
    return json_response(page, headers=pagination(body.limit, body.offset, len(rows)))


@router.get("/threads/{thread_id}")
async def get_thread(thread_id: str, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """One thread, with the values of its newest state."""
    row = await threads.get(services, principal, parse_canonical(thread_id, "thread"))
    return json_response(view.thread(row))


@router.patch("/threads/{thread_id}")
async def patch_thread(
    thread_id: str, body: GatewayThreadPatch, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    """Merge metadata into a thread."""
    thread = parse_canonical(thread_id, "thread")
    row = await threads.patch(services, principal, thread, ThreadPatch(metadata=body.metadata))
    return json_response(view.thread(row))


@router.delete("/threads/{thread_id}")
async def delete_thread(thread_id: str, services: CurrentServices, principal: CurrentPrincipal) -> Response:
    """Delete a thread and everything that belongs to it, stopping its runs. Once more is fine."""
    thread = parse_canonical(thread_id, "thread")
    message = await service.delete_thread(services, principal, thread)
    return json_response({"success": True, "message": message})


@router.get("/threads/{thread_id}/state")
async def get_thread_state(
    thread_id: str, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    """The newest state of a thread."""
    found = await state.read(services, principal, parse_canonical(thread_id, "thread"))
    return json_response(view.state(found))


@router.post("/threads/{thread_id}/state")
async def update_thread_state(
    thread_id: str, body: GatewayStateUpdate, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    """Update a thread's state as if a node had written it; without `as_node`, one of those that ran last."""
    written = await state.update(
        services,
        principal,
        parse_canonical(thread_id, "thread"),
        StateUpdate(**dict(body)),
        any_node=True,
        graph_id=service.default_graph(services.graphs),
    )
    return json_response(written)


@router.post("/threads/{thread_id}/history")
async def thread_history(
    thread_id: str, body: GatewayHistory, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    """A thread's states, newest first; only the first one has all of its values."""
    thread = parse_canonical(thread_id, "thread")
    query = HistorySearch(limit=body.limit, before=body.before)
    return json_response(await state.history(services, principal, thread, query, view.entry))


# Runs


@router.post("/threads/{thread_id}/runs")
async def create_run(
    thread_id: str,
    body: GatewayRun,
    services: CurrentServices,
    principal: CurrentPrincipal,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Start a run in the background."""
    created = await service.create_run(services, principal, thread_id, body, idempotency_key, told=False)
    location = GATEWAY + runs.path_of(created.thread_id, created.run_id)
    if idempotency_key is None:
        answer = view.run(created.row, usage.NOTHING)
    else:  # it may be an earlier one
        (answer,) = await service.shown(services, [created.row])
    return json_response(answer, headers={"content-location": location})


@router.post("/threads/{thread_id}/runs/stream")
async def stream_run(
    thread_id: str,
    body: GatewayRun,
    services: CurrentServices,
    principal: CurrentPrincipal,
    bounds: CurrentBounds,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Start a run and stream its events (SSE) until it ends."""
    created = await service.create_run(services, principal, thread_id, body, idempotency_key)
    return await streamed(Reading.of(created, services, bounds, GATEWAY))


@router.post("/threads/{thread_id}/runs/wait")
async def wait_for_run(
    thread_id: str,
    body: GatewayRun,
    services: CurrentServices,
    principal: CurrentPrincipal,
    bounds: CurrentBounds,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Start a run and wait for its final values."""
    created = await service.create_run(services, principal, thread_id, body, idempotency_key)
    return await waited(Reading.of(created, services, bounds, GATEWAY))


@router.post("/runs/stream")
async def stream_stateless_run(
    body: GatewayRun,
    services: CurrentServices,
    principal: CurrentPrincipal,
    bounds: CurrentBounds,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Start a run and stream its events (SSE) until it ends: on the thread that its config names, or on a hidden one."""
    thread = service.thread_of_stateless(body)
    created = await service.create_run(services, principal, thread, body, idempotency_key)
    return await streamed(Reading.of(created, services, bounds, GATEWAY))


@router.post("/runs/wait")
async def wait_for_stateless_run(
    body: GatewayRun,
    services: CurrentServices,
    principal: CurrentPrincipal,
    bounds: CurrentBounds,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Start a run and wait for its final values: on the thread that its config names, or on a hidden one."""
    thread = service.thread_of_stateless(body)
    created = await service.create_run(services, principal, thread, body, idempotency_key)
    return await waited(Reading.of(created, services, bounds, GATEWAY))


@router.get("/threads/{thread_id}/runs")
async def list_runs(
    thread_id: str,
    services: CurrentServices,
    principal: CurrentPrincipal,
    limit: Annotated[int, Query(ge=1, le=100)] = 100,
    offset: Annotated[int, Query(ge=0, le=OFFSET_MAX)] = 0,
) -> Response:
    """The thread's runs, newest first."""
    thread = str(parse_canonical(thread_id, "thread"))
    rows = await runs.rows_of(services, principal, thread, status=None, limit=limit, offset=offset)
    return json_response(await service.shown(services, rows))


@router.get("/threads/{thread_id}/runs/{run_id}")
async def get_run(
    thread_id: str, run_id: str, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    """One run."""
    thread = str(parse_canonical(thread_id, "thread"))
    row = await runs.get(services, principal, thread, run_id)
    (shown,) = await service.shown(services, [row])
    return json_response(shown)


@router.post("/threads/{thread_id}/runs/{run_id}/cancel")
async def cancel_run(
    thread_id: str,
    run_id: str,
    services: CurrentServices,
    principal: CurrentPrincipal,
    bounds: CurrentBounds,
    wait: str = "false",
    action: CancelAction = CancelAction.INTERRUPT,
) -> Response:
    """Cancel a run: 202 at once or, with `wait`, 204 when it has stopped. One that was cancelled before is fine."""
    thread, run = parse_canonical(thread_id, "thread"), parse_uuid(run_id, "run")
    await service.cancel_run(services, principal, thread, run, action)
    ended = is_true(wait) and await service.ended(services, run, bounds)
    return Response(status_code=204 if ended else 202)


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
    cancels = cancels_run(cancel_on_disconnect, principal)
    return await values_of(
        await service.reading(services, principal, thread_id, run_id, bounds, cancels), JoinAgain()
    )


@router.get("/threads/{thread_id}/runs/{run_id}/stream")
async def join_run_stream(
    thread_id: str,
    run_id: str,
    services: CurrentServices,
    principal: CurrentPrincipal,
    bounds: CurrentBounds,
    stream_mode: str | None = None,
    cancel_on_disconnect: str = "false",
    action: str | None = None,
    reader: Reader = None,
    last_event_id: LastEventId = None,
) -> Response:
    """Read a run's events (SSE): those after `Last-Event-ID`, `-1` being all; without it only what comes from now on."""
    if action:
        raise CancelByPost
    cancels, modes = cancels_run(cancel_on_disconnect, principal), modes_of(stream_mode)
    reading = await service.reading(services, principal, thread_id, run_id, bounds, cancels)
    return await joined(reading, modes, last_event_id, reader)


@router.post("/threads/{thread_id}/runs/{run_id}/stream")
async def cancel_and_stream_run(
    thread_id: str,
    run_id: str,
    services: CurrentServices,
    principal: CurrentPrincipal,
    bounds: CurrentBounds,
    action: CancelAction | None = None,
    wait: str = "false",
    reader: Reader = None,
    last_event_id: LastEventId = None,
) -> Response:
    """With `action`, cancel a run first, and with `wait` only that (204); then read its events (SSE) as GET does."""
    if action is not None:
        principal.require(Permission.RUNS_CANCEL)
        thread, run = parse_canonical(thread_id, "thread"), parse_uuid(run_id, "run")
        await service.cancel_run(services, principal, thread, run, action)
        if is_true(wait):
            ended = await service.ended(services, run, bounds)
            return Response(status_code=204 if ended else 202)
    reading = await service.reading(services, principal, thread_id, run_id, bounds)
    return await joined(reading, [], last_event_id, reader)


# Assistants


@router.post("/assistants/search")
async def search_assistants(
    body: GatewayAssistantSearch, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    """Search assistants; returns one page."""
    found = await of_dialect.search(services, principal, body)
    return json_response(found[: body.limit], headers=pagination(body.limit, body.offset, len(found)))


@router.get("/assistants/{assistant_id}")
async def get_assistant(
    assistant_id: str, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    """One assistant, by its id, that of its graph, or the name of an agent."""
    return json_response(await of_dialect.get(services, principal, assistant_id))


@router.get("/assistants/{assistant_id}/graph")
async def assistant_graph(
    assistant_id: str, services: CurrentServices, principal: CurrentPrincipal, xray: str = ""
) -> Response:
    """A drawing of an assistant's graph."""
    depth = depth_of(xray)
    asked = await of_dialect.graph_of(services, principal, assistant_id)
    async with assistants.open_graph(services, principal, asked) as (_, opened):
        return json_response(await topology.drawing(opened, depth))


@router.get("/assistants/{assistant_id}/schemas")
async def assistant_schemas(
    assistant_id: str, services: CurrentServices, principal: CurrentPrincipal
) -> Response:
    """The JSON schemas of an assistant's graph."""
    asked = await of_dialect.graph_of(services, principal, assistant_id)
    async with assistants.open_graph(services, principal, asked) as (graph_id, opened):
        return json_response({"graph_id": graph_id, **topology.schemas(opened)})
