"""What the SDK's clients without a URL speak through. Imported when the SDK is."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import httpx
from starlette.types import Message, Scope

from slackwater.errors import NoCaller
from slackwater.web.in_process import Exchange, current_requester


def offer(sdk: Any) -> None:
    """Replace what `get_client` of the module `langgraph_sdk._async.client` takes in place of a connection.

    The SDK's hook, `configure_loopback_transports`, reaches the clients that exist when it is called, and whoever they call
    speaks through `httpx.ASGITransport`, which holds back each response until it has ended.
    """
    sdk.get_asgi_transport = lambda: Transport
    sdk._registered_transports = deque(maxlen=0)  # it would keep each one for ever
    # Otherwise it would look for the official server first, and run it here if it is installed.
    os.environ["__LANGGRAPH_DEFER_LOOPBACK_TRANSPORT"] = "true"


class Transport(httpx.AsyncBaseTransport):
    """Sends requests to the API of this process, from any thread and any event loop."""

    def __init__(self, app: object = None, root_path: str = "") -> None:
        """As the SDK calls it. Which application it is, and who calls, is said by the context of each request."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises NoCaller, Draining, and what httpx raises for a connection that is silent or cut."""
        requester = current_requester.get()
        if requester is None or not requester.may_call():
            raise NoCaller
        exchange = Exchange(requester, _scope(request), await request.aread())
        body = _Body(exchange, request)
        requester.api.begin(exchange)
        try:
            start = await body.next()
        except BaseException:
            await body.aclose()
            raise
        return httpx.Response(start["status"], headers=start["headers"], stream=body)


class _Body(httpx.AsyncByteStream):
    """The body of a response, chunk by chunk as it is sent."""

    def __init__(self, exchange: Exchange, request: httpx.Request) -> None:
        self._exchange = exchange
        self._seconds = request.extensions.get("timeout", {}).get("read")
        self._closed = False

    async def next(self) -> Message:
        try:
            async with asyncio.timeout(self._seconds):
                message = await self._exchange.next()
        except TimeoutError:
            raise httpx.ReadTimeout(f"This process did not answer for {self._seconds:g} s.") from None
        if message is None:
            raise httpx.RemoteProtocolError("This process has cut the response: the run goes on elsewhere.")
        return message

    async def __aiter__(self) -> AsyncIterator[bytes]:
        more = True
        while more:
            message = await self.next()
            more = message.get("more_body", False)
            if message.get("body"):
                yield message["body"]

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._exchange.requester.api.left(self._exchange)


def _scope(request: httpx.Request) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": request.url.raw_path.partition(b"?")[0],
        "query_string": request.url.query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": None,
        "server": None,
    }
