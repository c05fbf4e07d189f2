"""The HTTP server in front of the fleet: an API Gateway HTTP API, and the Invoke API of Lambda beside it."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from slackwater.emulator import events
from slackwater.emulator.events import Answer
from slackwater.emulator.fleet import Fleet
from slackwater.emulator.tap import Stream
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
    """An ASGI application. Every request becomes an event, and the result of the function the answer."""

    def __init__(
        self,
        fleet: Fleet,
        *,
        limit_seconds: float,
        authorizer: str | None = None,
        streams: bool = False,
        keyless: bool = False,
    ) -> None:
        """`authorizer` names every caller from this machine, and lets others see what is for anybody; without one the
        function has API keys.

        `keyless`: it has none, so that nobody but this machine is served.
        `streams`: it is a Function URL, which passes on answers as they are made, and knows no limit of its own.
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
            return  # half a request is none
        if body is None:
            answer = Answer.message(413, "Request Entity Too Large")
        elif scope["path"].startswith("/2015-03-31/"):
            answer = await self._invoke_api(scope, body)
        else:
            answer, stream = await self._proxy(scope, body)
            if stream is not None:
                await _pass_on(answer, stream, send)
                return
        await _send(answer, send, head=scope["method"] == "HEAD")

    async def _proxy(self, scope: Scope, body: bytes) -> tuple[Answer, Stream | None]:
        """The answer, and the body that is still being made."""
        event = events.from_request(scope, body, streams=self.streams)
        if self.authorizer is not None:
            if loopback.refusal(scope) is None:
                events.authorise(event, self.authorizer)
            elif "x-api-key" not in event["headers"] and scope["path"] not in PUBLIC:
                return Answer.message(403, "Forbidden"), None
        payload = orjson.dumps(event)
        if len(payload) > PAYLOAD_BYTES:
            return Answer.message(413, "Request Entity Too Large"), None
        try:
            async with asyncio.timeout(None if self.streams else self.limit_seconds):
                outcome = await self.fleet.invoke(payload)
        except TimeoutError:
            # The function goes on, on AWS too. A REST API would answer 504.
            return Answer.message(503, "Service Unavailable"), None
        if outcome.error is None:
            try:
                return events.to_answer(outcome), outcome.stream
            except events.BadResult as error:
                problem = str(error)
        else:
            problem = outcome.payload.decode(errors="replace")
        log.error("the function failed", extra={"event": "emulator.function_failed", "error": problem})
        return Answer.message(502 if self.streams else 500, "Internal Server Error"), None

    async def _invoke_api(self, scope: Scope, body: bytes) -> Answer:
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
            return Answer(204)
        if kind == "Event":
            self.fleet.submit(body or b"{}")
            return Answer(202)
        outcome = await self.fleet.invoke(body or b"{}")
        found = [("content-type", "application/json"), ("x-amz-executed-version", "$LATEST")]
        if outcome.error is not None:
            found.append(("x-amz-function-error", "Unhandled"))
        return Answer(200, found, outcome.payload)


def _is_signed(scope: Scope, headers: Mapping[str, str]) -> bool:
    """Whether an SDK on this machine calls, which signs, and is no web page."""
    signed = headers.get("authorization", "").startswith("AWS4-HMAC-SHA256 ")
    return signed and "origin" not in headers and loopback.refusal(scope) is None


def _name(called: str) -> str:
    """The function's name in a name or an ARN, without a version."""
    return called.partition(":function:")[2].partition(":")[0] or called.partition(":")[0]


def _refusal(status: int, kind: str, message: str) -> Answer:
    body = orjson.dumps({"Type": "User", "Message": message})
    return Answer(status, [("content-type", "application/json"), ("x-amzn-errortype", kind)], body)


async def _read(receive: Receive) -> bytes | None:
    """The body, or None when it is too large. Raises ConnectionError when the client has gone before its end."""
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


async def _pass_on(answer: Answer, stream: Stream, send: Send) -> None:
    """Send what comes as it comes. One that was broken off has no last chunk, by which its client knows."""
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    async for chunk in stream:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    if stream.error is None:
        await send({"type": "http.response.body", "body": b""})


async def _send(answer: Answer, send: Send, *, head: bool) -> None:
    headers: list[Any] = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    if answer.status not in (204, 304):
        headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else answer.body})
