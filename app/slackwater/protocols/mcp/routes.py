"""MCP over streamable HTTP: assistants as tools. Stateless, so any process answers any request."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Header, Request, Response

from slackwater.errors import ApiError, BadRequest, Draining, NotFound, TooManyRuns
from slackwater.identity.principal import CurrentPrincipal, Principal
from slackwater.kit import json_format, sse
from slackwater.protocols import jsonrpc
from slackwater.protocols.jsonrpc import Call, RpcError
from slackwater.protocols.mcp import service
from slackwater.protocols.mcp.models import (
    RESUMABLE,
    UNNAMED_VERSION,
    VERSIONS,
    CallTool,
    Initialize,
    ListTools,
    McpMethod,
)
from slackwater.protocols.mcp.service import Called
from slackwater.runtime.events.run_reader import StreamCut
from slackwater.web.http import CurrentServices, JsonRoute, json_response
from slackwater.web.streams.bounds import Bounds, CurrentBounds
from slackwater.web.streams.response import OpenResponse

if TYPE_CHECKING:
    from slackwater.services import Services

router = APIRouter(tags=["mcp"], route_class=JsonRoute)

RETRY_MILLISECONDS = 2000
"""When a client whose answer was cut off asks again. The SDK tries twice, and another process has to be there by then."""


IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key")]
ProtocolVersion = Annotated[str | None, Header(alias="MCP-Protocol-Version")]
LastEventId = Annotated[str | None, Header(alias="Last-Event-ID")]


@router.post("/mcp")
async def message(
    request: Request,
    services: CurrentServices,
    principal: CurrentPrincipal,
    bounds: CurrentBounds,
    idempotency_key: IdempotencyKey = None,
    protocol_version: ProtocolVersion = None,
) -> Response:
    """One JSON-RPC message: `initialize`, `ping`, `tools/list` or `tools/call`; 202 if it expects no response.

    Anything else is answered with 400 and a JSON-RPC error.
    """
    accept = request.headers.get("accept", "*/*")
    if not any(kind in accept for kind in ("application/json", sse.MEDIA_TYPE, "*/*")):
        return _refuse(
            RpcError(jsonrpc.INVALID_REQUEST, f"Accept must name application/json or {sse.MEDIA_TYPE}")
        )
    try:
        call = await jsonrpc.read(request)
    except RpcError as error:
        return _refuse(error)
    if not call.expects:
        return Response(status_code=202)
    version = protocol_version or UNNAMED_VERSION
    try:
        if call.method == McpMethod.CALL_TOOL:
            _check(version)
            called = await service.call_tool(services, principal, call.read(CallTool), idempotency_key)
            resumable = version in RESUMABLE and sse.MEDIA_TYPE in accept
            return await _answer(services, principal, call, called, bounds, resumable=resumable)
        return json_response(call.result(await _result(services, principal, call, version)))
    except RpcError as error:
        return json_response(call.failure(error))
    except (Draining, TooManyRuns):  # a status that says when to try again
        raise
    except ApiError as error:
        return json_response(call.failure(RpcError.of(error)))


@router.get("/mcp")
async def resume(
    services: CurrentServices,
    principal: CurrentPrincipal,
    bounds: CurrentBounds,
    last_event_id: LastEventId = None,
) -> Response:
    """Resume an interrupted response from its `Last-Event-ID`. There is no other stream: 405."""
    if last_event_id is None:
        return json_response({"detail": "Method Not Allowed"}, 405, {"Allow": "POST"})
    called, call_id = _parse(last_event_id)
    if not await service.find(services, principal, called):
        raise NotFound("There is no answer for this Last-Event-ID: answers are kept for two minutes.")
    call = Call(call_id, McpMethod.CALL_TOOL, {})
    return await _answer(services, principal, call, called, bounds, resumable=True)


@router.delete("/mcp")
async def end_session() -> Response:
    """There are no sessions to end: 404."""
    raise NotFound


async def _result(services: Services, principal: Principal, call: Call, version: str) -> dict[str, Any]:
    match call.method:
        case McpMethod.INITIALIZE:
            return service.initialize(call.read(Initialize).protocolVersion)
        case McpMethod.PING:
            return {}
        case McpMethod.LIST_TOOLS:
            _check(version)
            return await service.list_tools(services, principal, call.read(ListTools).cursor)
    raise RpcError(jsonrpc.METHOD_NOT_FOUND, f"Method not found: {call.method}")


def _check(version: str) -> None:
    if version not in VERSIONS:
        raise RpcError(
            jsonrpc.INVALID_REQUEST, f"MCP-Protocol-Version: {version} is not one of {', '.join(VERSIONS)}"
        )


async def _answer(
    services: Services,
    principal: Principal,
    call: Call,
    called: Called,
    bounds: Bounds | None,
    *,
    resumable: bool,
) -> Response:
    """The result of the call's run, once it has ended.

    A client that can come back gets at once an id to come back with. The connection of one that cannot is aborted when this
    process leaves, since a clean end would look like a result.
    """
    until = None if bounds is None else bounds.wait_until

    async def events() -> AsyncGenerator[bytes]:
        yield _where_to(called, call)
        try:
            result = await service.result(services, principal, called, until=until)
        except StreamCut:
            return  # an end without the answer: the client asks for the rest
        yield jsonrpc.frame(call.result(result))

    async def whole() -> AsyncGenerator[bytes]:
        yield b"\n"  # at once, as heartbeats: JSON may begin with them
        yield json_format.dumps(call.result(await service.result(services, principal, called, until=until)))

    if bounds is not None and not bounds.live:
        if resumable:
            page = b"".join([chunk async for chunk in events()])
            return Response(page, headers=sse.HEADERS, media_type=sse.MEDIA_TYPE)
        try:
            return json_response(call.result(await service.result(services, principal, called, until=until)))
        except StreamCut:
            why = f"The run is still going, but this server cannot wait any longer: GET {called.join} to keep waiting."
            raise RpcError(jsonrpc.GOES_ON, why, {"location": called.join}) from None
    # A run does not end with its caller: MCP has a message for that, which could name anybody's call.
    return OpenResponse(
        events() if resumable else whole(),
        media_type=sse.MEDIA_TYPE if resumable else "application/json",
        headers=sse.HEADERS,
        heartbeat=sse.HEARTBEAT if resumable else b"\n",
        seconds=services.settings.heartbeat_seconds,
    )


def _where_to(called: Called, call: Call) -> bytes:
    """An event without data, which tells the client what to send as `Last-Event-ID`."""
    asked = urlsafe_b64encode(orjson.dumps(call.id)).decode()
    event_id = f"{called.thread_id}:{called.run_id}:{asked}"
    return f"id: {event_id}\r\nretry: {RETRY_MILLISECONDS}\r\ndata: \r\n\r\n".encode()


def _parse(event_id: str) -> tuple[Called, Any]:
    """The run and the id of the call that an event id of ours names. Raises BadRequest."""
    try:
        thread_id, run_id, asked = event_id.split(":")
        return Called(UUID(thread_id), UUID(run_id)), orjson.loads(urlsafe_b64decode(asked))
    except ValueError:  # of which those of base64 and JSON are
        raise BadRequest("Last-Event-ID: was not made by this server") from None


def _refuse(error: RpcError) -> Response:
    return json_response(jsonrpc.failure(None, error), 400)
