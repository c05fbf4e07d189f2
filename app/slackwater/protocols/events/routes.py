"""Protocol v2 over HTTP: commands, and the events of a thread by server-sent events."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Request, Response, WebSocket

from slackwater.errors import ApiError, BadRequest, Invalid, NoWebSocket
from slackwater.identity.principal import CurrentPrincipal
from slackwater.kit import sse
from slackwater.kit.ids import parse_uuid
from slackwater.kit.refusal import refuse
from slackwater.protocols.events import service, streaming
from slackwater.protocols.events.feed import Feed
from slackwater.protocols.events.socket import Socket
from slackwater.protocols.events.subscription import (
    CHANNELS,
    Subscription,
    since_of,
    too_many,
    unknown_channels,
)
from slackwater.web.http import CurrentServices, JsonRoute, json_response
from slackwater.web.streams.bounds import CurrentBounds
from slackwater.web.streams.response import thread_answer

router = APIRouter(prefix="/threads/{thread_id}", tags=["protocol v2"], route_class=JsonRoute)

SHOWN_CHANNELS = 5


@router.post("/commands")
async def command(
    thread_id: str,
    request: Request,
    services: CurrentServices,
    principal: CurrentPrincipal,
    idempotency_key: Annotated[str | None, Header(alias="Idempotency-Key")] = None,
) -> Response:
    """Execute a command: `{"id", "method", "params"}`. Errors of the command also have status 200."""
    thread = parse_uuid(thread_id, "thread")
    body = await _json(request)
    if (refusal := service.malformed(body)) is not None:
        return json_response(refusal, 400)
    caller = service.Caller(services, principal, thread, idempotency_key)
    return json_response(await service.answer(caller, body))


@router.post("/stream/events")
async def events(
    thread_id: str,
    request: Request,
    services: CurrentServices,
    principal: CurrentPrincipal,
    bounds: CurrentBounds,
) -> Response:
    """Stream the events of a thread (SSE), from the beginning or after event number `since`, without end."""
    thread = parse_uuid(thread_id, "thread")
    body = await _json(request)
    channels = body.get("channels") if isinstance(body, dict) else None
    if not isinstance(channels, list) or not channels:
        raise BadRequest("channels is required and must be a non-empty array")
    if too_much := too_many(body):
        raise Invalid(too_much)
    if unknown := unknown_channels(channels):
        raise BadRequest(
            f"channels contains unsupported entries: {', '.join(unknown[:SHOWN_CHANNELS])}. Allowed: "
            f"{', '.join(CHANNELS)}, or any `custom:<name>`."
        )
    reader = await service.reader_of(service.Caller(services, principal, thread))
    feed = Feed(services.runtime.thread_log, reader.owner, thread, since_of(body))
    wanted = Subscription.of(body)
    chunks = streaming.frames(feed, wanted) if bounds is None else streaming.page(feed, wanted, bounds)
    return await thread_answer(chunks, sse.HEADERS, services.settings, bounds)


@router.get("/stream/events", include_in_schema=False)
async def no_socket(thread_id: str) -> Response:
    """What is no WebSocket, or reaches a server that has none."""
    raise NoWebSocket


@router.websocket("/stream/events")
async def socket(websocket: WebSocket, thread_id: str) -> None:
    """The same by WebSocket, and commands with it."""
    try:
        thread = parse_uuid(thread_id, "thread")
        caller = service.Caller(websocket.state.services, websocket.scope["principal"], thread)
        reader = await service.reader_of(caller)
    except ApiError as error:
        await refuse(error, websocket.scope, websocket.receive, websocket.send)
        return
    await Socket(websocket, caller, reader).serve()


async def _json(request: Request) -> Any:
    try:
        return await request.json()
    except orjson.JSONDecodeError:
        raise BadRequest("Invalid JSON body") from None
