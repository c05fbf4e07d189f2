"""Runs: in the background, streamed, waited for, joined, cancelled; on a thread or without one."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import urlencode
from uuid import UUID, uuid4

import orjson
from fastapi import APIRouter, Header, Query, Response

from slackwater.api.runs import service
from slackwater.api.runs.models import READABLE, RUN_FIELDS, Cancel, RunBatch, RunCreate, shown
from slackwater.api.runs.pages import PagedStream
from slackwater.errors import ApiError, Invalid, JoinAgain, NotFound, RefusedByAuth, StillRunning
from slackwater.identity.permissions import Permission
from slackwater.identity.principal import CurrentPrincipal, Principal
from slackwater.kit import json_format, sse
from slackwater.kit.fields import OFFSET_MAX
from slackwater.kit.ids import parse_uuid
from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE
from slackwater.runtime.events.journal import BEGINNING, EventId
from slackwater.runtime.events.run_reader import RunGone, StreamCut
from slackwater.runtime.execution.encoding import matches
from slackwater.runtime.queue.cancel import READER_GONE, CancelAction
from slackwater.web.http import CurrentServices, JsonRoute, json_response
from slackwater.web.streams.bounds import Bounds, CurrentBounds
from slackwater.web.streams.response import Left, OpenResponse

if TYPE_CHECKING:
    from slackwater.services import Services

router = APIRouter(tags=["runs"], route_class=JsonRoute)

IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key")]
LastEventId = Annotated[str | None, Header(alias="Last-Event-ID")]
Status = Literal["pending", "running", "success", "error", "timeout", "interrupted"]

_TRUE = frozenset({"1", "true", "yes"})
_BASE_OF_NAME = re.compile(r"[|/]")
"""`updates|child:…` and `messages/partial` are names of events, too."""


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
    return await _stream(services, created, bounds)


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
    return await _stream(services, created, bounds)


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
    return await _wait(services, created, bounds)


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
    return await _wait(services, created, bounds)


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
    if wait.lower() not in _TRUE:
        return Response(status_code=202)
    thread, run = parse_uuid(thread_id, "thread"), parse_uuid(run_id, "run")
    reading = Reading(services, principal, thread, run, bounds)
    return await _body(reading, StillRunning(reading.join))


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
    cancels = _cancels(cancel_on_disconnect, principal)
    principal = await service.listener_of(services, principal, thread, run)
    row = await service.find(services, principal, thread, run)
    if row is None:
        return json_response({"__error__": service.NOT_FOUND})
    if row["reader_left_at"] is not None:
        await service.reader_back(services, run)
    reading = Reading(services, principal, thread, run, bounds, cancels)
    return await _body(reading, JoinAgain())


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
    modes = _modes(stream_mode)
    cancels = _cancels(cancel_on_disconnect, principal)
    try:
        principal = await service.listener_of(services, principal, thread, run)
    except (NotFound, RefusedByAuth) as error:
        # Officially, too, who joins a stream learns of it in the stream.
        return _error({"error": "HTTPException", "message": f"{error.status}: {error.message}"})
    row = await service.find(services, principal, thread, run)
    if row is None:
        return _error(service.NOT_FOUND)
    if row["reader_left_at"] is not None:
        await service.reader_back(services, run)
    if reader is not None:
        await service.reader_returns(services, run, reader)
    if last_event_id is None:
        cursor = await services.runtime.newest(run)
    else:
        cursor = EventId.parse(last_event_id) or BEGINNING
    reading = Reading(services, principal, thread, run, bounds, cancels)
    return await _events(reading, cursor, modes, content_location=reading.path, reader=reader)


def _error(shown: object) -> Response:
    """A stream of one event."""
    return Response(
        sse.frame("error", json_format.dumps(shown), None), headers=sse.HEADERS, media_type=sse.MEDIA_TYPE
    )


def _cancels(cancel_on_disconnect: str, principal: Principal) -> bool:
    """Whether the run is cancelled when its reader goes away. Raises Forbidden for a key that may only read."""
    cancels = cancel_on_disconnect.lower() in _TRUE
    if cancels:
        principal.require(Permission.RUNS_CANCEL)
    return cancels


def _modes(text: str | None) -> list[str]:
    """One mode, or a JSON array of modes; nothing means all that the run publishes."""
    if not text:
        return []
    try:
        modes = orjson.loads(text) if text.startswith("[") else [text]
    except orjson.JSONDecodeError:
        raise Invalid("stream_mode: must be a mode or a JSON array of modes") from None
    for mode in modes:
        if not isinstance(mode, str) or _BASE_OF_NAME.split(mode, maxsplit=1)[0] not in READABLE:
            raise Invalid(f"stream_mode: {mode!r} is not one of {', '.join(sorted(READABLE))}")
    return list(modes)


@dataclass(frozen=True, slots=True)
class Reading:
    """A request that is answered with what a run has to say."""

    services: Services
    principal: Principal
    thread_id: UUID
    run_id: UUID
    bounds: Bounds | None
    cancels: bool = False
    """The run is cancelled when its reader leaves."""

    @classmethod
    def of(cls, created: service.Created, services: Services, bounds: Bounds | None) -> Reading:
        cancels = created.on_disconnect == "cancel"
        return cls(services, created.principal, created.thread_id, created.run_id, bounds, cancels)

    @property
    def path(self) -> str:
        return service.path_of(self.thread_id, self.run_id)

    @property
    def join(self) -> str:
        """Where the same is waited for again."""
        return f"{self.path}/join" + ("?cancel_on_disconnect=1" if self.cancels else "")

    async def cut(self) -> None:
        """The answer ends before the run does."""
        # If it is not recorded, the run goes on without him: an answer that is complete is not given up for that.
        if self.cancels:
            with suppress(*DATABASE_UNAVAILABLE):
                await service.reader_cut(self.services, self.run_id)

    async def left(self, how: Left) -> None:
        """A reader is gone. Only if he left by himself does his run end with him."""
        if not self.cancels or how is Left.ENDED:
            return
        if how is Left.DISCONNECTED and not self.services.runtime.draining:
            await self.services.runtime.cancel(
                self.principal.owner, self.thread_id, [self.run_id], CancelAction.INTERRUPT, READER_GONE
            )
        else:
            await service.reader_cut(self.services, self.run_id)


async def _stream(services: Services, created: service.Created, bounds: Bounds | None) -> Response:
    reading = Reading.of(created, services, bounds)
    return await _events(reading, BEGINNING, [], content_location=created.content_location, starts=True)


async def _wait(services: Services, created: service.Created, bounds: Bounds | None) -> Response:
    reading = Reading.of(created, services, bounds)
    return await _body(reading, StillRunning(reading.join))


async def _events(
    reading: Reading,
    cursor: EventId,
    modes: list[str],
    *,
    content_location: str,
    reader: UUID | None = None,
    starts: bool = False,
) -> Response:
    services, run_id, bounds = reading.services, reading.run_id, reading.bounds
    # The SDK drops its query parameters when it reconnects: what it asked for has to be in the Location.
    query = {"stream_mode": orjson.dumps(modes).decode()} if modes else {}
    if reading.cancels:
        query["cancel_on_disconnect"] = "1"
    stream = None
    if bounds is not None:
        reader = reader or uuid4()
        query["reader"] = str(reader)
        stream = PagedStream(
            services, run_id, cursor, modes=modes, bounds=bounds, reader=reader, starts=starts
        )
    location = f"{reading.path}/stream" + (f"?{urlencode(query)}" if query else "")
    headers = {**sse.HEADERS, "location": location, "content-location": content_location}
    if stream is not None and not stream.live:
        page = b"".join([chunk async for chunk in stream.frames()])
        if not stream.over:
            await reading.cut()
        return Response(page, headers=headers, media_type=sse.MEDIA_TYPE)

    async def left(how: Left) -> None:
        sent_away = how is Left.ENDED and stream is not None and not stream.over
        await reading.left(Left.CUT if sent_away else how)

    return OpenResponse(
        stream.frames() if stream is not None else _frames(services, run_id, cursor, modes),
        media_type=sse.MEDIA_TYPE,
        headers=headers,
        heartbeat=sse.HEARTBEAT,
        seconds=services.settings.heartbeat_seconds,
        left=left,
    )


async def _frames(
    services: Services, run_id: UUID, cursor: EventId, modes: list[str]
) -> AsyncGenerator[bytes]:
    has_id = False
    # A client that is cut off before its first event needs an id to come back with: a frame with an id only
    # moves its cursor and is not an event.
    if not services.runtime.works_on(run_id):
        has_id = True
        yield sse.id_only(str(cursor))
    try:
        async with aclosing(services.runtime.follow(run_id, cursor)) as batches:
            async for batch in batches:
                wanted = [event for event in batch if matches(event.name, modes)]
                if wanted:
                    has_id = True
                    yield b"".join(sse.frame(e.name, e.data, str(e.id)) for e in wanted)
    except RunGone:
        yield sse.frame("error", json_format.dumps(service.NOT_FOUND), None)
    except StreamCut:
        if not has_id:
            yield sse.id_only(str(cursor))
        raise


async def _body(reading: Reading, late: ApiError) -> Response:
    """The run's final values, when it has ended. Raises `late` where it does not within the bounds of a collected answer."""
    bounds = reading.bounds
    headers = {"location": reading.join, "content-location": reading.path}
    if bounds is not None and not bounds.live:
        # Not begun before its end: what is sent is collected, and only the end tells which status it has.
        try:
            body = await _final_values(reading)
        except (StreamCut, *DATABASE_UNAVAILABLE):
            await reading.cut()
            raise late from None
        return Response(body, headers=headers, media_type="application/json")

    async def whole() -> AsyncGenerator[bytes]:
        # At once: the client has to know the Location before anything can be cut.
        yield b"\n"
        yield await _final_values(reading)

    return OpenResponse(
        whole(),
        media_type="application/json",
        headers=headers,
        heartbeat=b"\n",
        seconds=reading.services.settings.heartbeat_seconds,
        left=reading.left,
    )


async def _final_values(reading: Reading) -> bytes:
    until = None if reading.bounds is None else reading.bounds.wait_until
    return await service.body(
        reading.services, reading.principal, reading.thread_id, reading.run_id, until=until
    )
