"""A streamed response: what the application sends goes to the Runtime API at once, and from there to the client.

```
POST …/response   JSON of status, headers and cookies · 8 NULs · the body in chunks · trailers, if it is incomplete
```
Source: AWS, "Building a custom runtime" (response streaming), and "Set up a Lambda proxy integration with payload
response streaming in API Gateway", which wants the JSON and the NULs within the first 16 KB.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import Iterable
from typing import Any

from starlette.types import ASGIApp, Message, Scope

from slackwater.errors import ApiError, SlackwaterError
from slackwater_lambda.http import Overdue, response_of
from slackwater_lambda.runtime_api import ERROR_BODY, ERROR_TYPE, RUNTIME, RuntimeApi, describe, error_type

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/vnd.awslambda.http-integration-response"
NULS = b"\0" * 8

CONFIRM_SECONDS = 0.1
"""The minimum time for the Runtime API to confirm the end of a response, however late it is."""

_FRAMING = frozenset({"connection", "content-length", "keep-alive", "transfer-encoding"})
"""Headers of a connection, which is the front end's own: it sets them itself."""


class IncompleteResponse(SlackwaterError):
    """The response ended early: the client reconnects for the rest."""


class InternalError(ApiError):
    """Internal Server Error"""

    status = 500


class ResponseStream:
    """The response to one request. Used in the event loop only. Keeps nothing of what has been sent.

    A slow client, or Lambda's limit of 2 MB/s, slows down the application: each message waits until the connection has taken
    it, apart from the few KB that connections buffer.
    """

    def __init__(self, api: RuntimeApi, request_id: str, body: bytes, until: float) -> None:
        """`until`: when the response is ended, complete or not, in seconds on the monotonic clock."""
        self._api = api
        self._request_id = request_id
        self._body: bytes | None = body
        self._until = until
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._complete = asyncio.Event()

    async def serve(self, app: ASGIApp, scope: Scope) -> None:
        """Let the application respond. Whatever it does, the response has ended when this returns."""
        problem: Exception | None = None
        try:
            async with asyncio.timeout(self._until - time.monotonic()) as limit:
                await app(scope, self._receive, self._send)
        except Exception as error:
            if isinstance(error, TimeoutError) and limit.expired():
                problem = Overdue()
                log.error(problem.message, extra={"event": "request.overdue"})
            else:
                problem = error
                # Even if the response is complete: the app sends its 500 before it raises.
                log.error("a request failed", exc_info=error, extra={"event": "request.failed"})
        if not self._complete.is_set():
            await self._complete_with(problem or IncompleteResponse())
        await self._confirm()

    async def send_error(self, error: ApiError) -> None:
        """Respond with an error, without calling the application."""
        response = response_of(error)
        await self._send({"type": "http.response.start", **response})
        await self._send({"type": "http.response.body", "body": response["body"]})
        await self._confirm()

    # ASGI

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        # Lambda does not tell a function that its client has disconnected.
        await self._complete.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._begin(message["status"], message.get("headers", ()))
            return
        assert self._writer is not None, "no http.response.start"
        if self._complete.is_set():
            return
        self._chunk(message.get("body", b""))
        if not message.get("more_body", False):
            self._end()
        await self._writer.drain()

    async def _complete_with(self, problem: Exception) -> None:
        """End a response that the application did not complete."""
        if self._writer is None:
            await self.send_error(problem if isinstance(problem, ApiError) else InternalError())
        else:
            self._end(problem)

    # Runtime API

    async def _begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        host, _, port = self._api.address.rpartition(":")
        self._reader, self._writer = await asyncio.open_connection(host, int(port))
        self._writer.write(
            f"POST {RUNTIME}/invocation/{self._request_id}/response HTTP/1.1\r\n"
            f"Host: {self._api.address}\r\n"
            f"Content-Type: {CONTENT_TYPE}\r\n"
            "Lambda-Runtime-Function-Response-Mode: streaming\r\n"
            "Transfer-Encoding: chunked\r\n"
            f"Trailer: {ERROR_TYPE}, {ERROR_BODY}\r\n\r\n".encode()
        )
        self._chunk(prelude(status, headers))
        await self._writer.drain()

    def _chunk(self, data: bytes) -> None:
        assert self._writer is not None
        if data:  # an empty chunk would end the body
            self._writer.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _end(self, error: Exception | None = None) -> None:
        """Send the last chunk. If the response ends early, trailers say why."""
        assert self._writer is not None
        trailers = b""
        if error is not None:
            body = base64.b64encode(describe(error)).decode()
            trailers = f"{ERROR_TYPE}: {error_type(error)}\r\n{ERROR_BODY}: {body}\r\n".encode()
        self._writer.write(b"0\r\n" + trailers + b"\r\n")
        self._complete.set()

    async def _confirm(self) -> None:
        """Wait until the Runtime API has accepted the whole response."""
        if self._reader is None or self._writer is None:
            return
        try:
            async with asyncio.timeout(max(self._until - time.monotonic(), CONFIRM_SECONDS)):
                line = await self._reader.readline()
        except (OSError, TimeoutError) as problem:
            line = repr(problem).encode()
        if b" 202 " in line:
            self._writer.close()
        else:
            log.error(
                "the response was not accepted",
                extra={"event": "runtime_api.refused", "answer": line.decode(errors="replace").strip()},
            )
            self._writer.transport.abort()
        self._reader = self._writer = None


def prelude(status: int, raw: Iterable[tuple[bytes, bytes]]) -> bytes:
    """What precedes the body: status, headers and cookies as JSON, then the separator."""
    headers: dict[str, str] = {}
    cookies: list[str] = []
    for name, value in ((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in raw):
        if name == "set-cookie":
            cookies.append(value)
        elif name not in _FRAMING:
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    parts: dict[str, Any] = {"statusCode": status, "headers": headers, "cookies": cookies}
    return json.dumps(parts).encode() + NULS
