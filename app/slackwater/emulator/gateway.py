"""The HTTP server in front of the environments: an API Gateway HTTP API, and Lambda's Invoke API beside it."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from slackwater.emulator import events
from slackwater.emulator.events import HttpResponse
from slackwater.emulator.fleet import Fleet
from slackwater.emulator.runtime_api_proxy import Stream
from slackwater.identity import loopback
from slackwater.kit.refusal import refuse
from slackwater.web.route_table import PUBLIC

log = logging.getLogger(__name__)

REQUEST_BYTES = 10_485_760
"""The largest request of an HTTP API."""
PAYLOAD_BYTES = 6_291_556
"""The largest event of a synchronous invocation."""
ASYNC_BYTES = 1_048_576

_INVOKE = re.compile(r"/2015-03-31/functions/([^/]+)/invocations$")


class Gateway:
    """An ASGI application: every request becomes an event, and the function's result its response."""

    def __init__(
        self,
        fleet: Fleet,
        *,
        limit_seconds: float,
        authorizer: str | None = None,
        streams: bool = False,
        keyless: bool = False,
    ) -> None:
        """`authorizer` authenticates every caller on this machine, and lets others reach public routes only; None if the
        function has API keys.

        `keyless`: the function has no keys, so that only this machine is served.
        `streams`: emulate a Function URL, which streams responses and has no time limit of its own.
        """
        self.fleet = fleet
        self.streams = streams
        self.limit_seconds = limit_seconds
        self.authorizer = authorizer
        self.keyless = keyless

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"no {scope['type']} here")
        if self.keyless and (error := loopback.refusal(scope)) is not None:
            await refuse(error, scope, receive, send)
            return
        try:
            body = await _read(receive)
        except ConnectionError:
            return  # the client disconnected before the end of its request
        if body is None:
            response = HttpResponse.message(413, "Request Entity Too Large")
        elif scope["path"].startswith("/2015-03-31/"):
            response = await self._invoke_api(scope, body)
        else:
            response, stream = await self._proxy(scope, body)
            if stream is not None:
                await _forward_stream(response, stream, send)
                return
        await _send(response, send, head=scope["method"] == "HEAD")

    async def _proxy(self, scope: Scope, body: bytes) -> tuple[HttpResponse, Stream | None]:
        """The response, and the rest of its body if it is streamed."""
        event = events.from_request(scope, body, streams=self.streams)
        if self.authorizer is not None:
            if loopback.refusal(scope) is None:
                events.authorise(event, self.authorizer)
            elif "x-api-key" not in event["headers"] and scope["path"] not in PUBLIC:
                return HttpResponse.message(403, "Forbidden"), None
        payload = orjson.dumps(event)
        if len(payload) > PAYLOAD_BYTES:
            return HttpResponse.message(413, "Request Entity Too Large"), None
        try:
            async with asyncio.timeout(None if self.streams else self.limit_seconds):
                outcome = await self.fleet.invoke(payload)
        except TimeoutError:
            # The function goes on, as on AWS. A REST API would answer 504.
            return HttpResponse.message(503, "Service Unavailable"), None
        if outcome.error is None:
            try:
                return events.to_response(outcome), outcome.stream
            except events.InvalidResult as error:
                problem = str(error)
        else:
            problem = outcome.payload.decode(errors="replace")
        log.error("the function failed", extra={"event": "emulator.function_failed", "error": problem})
        return HttpResponse.message(502 if self.streams else 500, "Internal Server Error"), None

    async def _invoke_api(self, scope: Scope, body: bytes) -> HttpResponse:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        called = _INVOKE.match(scope["path"])
        if not _is_signed(scope, headers):
            return _refusal(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
        if called is None or scope["method"] != "POST" or _name(called[1]) != self.fleet.function.name:
            return _refusal(404, "ResourceNotFoundException", f"Function not found: {scope['path']}")
        kind = headers.get("x-amz-invocation-type", "RequestResponse")
        if len(body) > (ASYNC_BYTES if kind == "Event" else PAYLOAD_BYTES):
            return _refusal(413, "RequestTooLargeException", "the payload is too large")
        try:
            orjson.loads(body or b"{}")
        except orjson.JSONDecodeError as error:
            return _refusal(400, "InvalidRequestContentException", f"Could not parse request body: {error}")
        if kind == "DryRun":
            return HttpResponse(204)
        if kind == "Event":
            self.fleet.submit(body or b"{}")
            return HttpResponse(202)
        outcome = await self.fleet.invoke(body or b"{}")
        found = [("content-type", "application/json"), ("x-amz-executed-version", "$LATEST")]
        if outcome.error is not None:
            found.append(("x-amz-function-error", "Unhandled"))
        return HttpResponse(200, found, outcome.payload)


def _is_signed(scope: Scope, headers: Mapping[str, str]) -> bool:
    """Whether the caller is an SDK on this machine: it signs requests, and is not a web page."""
    signed = headers.get("authorization", "").startswith("AWS4-HMAC-SHA256 ")
    return signed and "origin" not in headers and loopback.refusal(scope) is None


def _name(called: str) -> str:
    """The function's name from a name or an ARN, without a version."""
    return called.partition(":function:")[2].partition(":")[0] or called.partition(":")[0]


def _refusal(status: int, kind: str, message: str) -> HttpResponse:
    body = orjson.dumps({"Type": "User", "Message": message})
    return HttpResponse(status, [("content-type", "application/json"), ("x-amzn-errortype", kind)], body)


async def _read(receive: Receive) -> bytes | None:
    """The body; None if it is too large. Raises ConnectionError if the client disconnects before its end."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError
        body += message.get("body", b"")
        if len(body) > REQUEST_BYTES:
            return None
        if not message.get("more_body"):
            return bytes(body)


async def _forward_stream(response: HttpResponse, stream: Stream, send: Send) -> None:
    """Forward a streamed response. One that was cut has no last chunk, which tells the client."""
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    async for chunk in stream:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    if stream.error is None:
        await send({"type": "http.response.body", "body": b""})


async def _send(response: HttpResponse, send: Send, *, head: bool) -> None:
    headers: list[Any] = [
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers
    ]
    if response.status not in (204, 304):
        headers.append((b"content-length", str(len(response.body)).encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else response.body})
