"""One log line per request, with some of its headers (`http.logging_headers`)."""

from __future__ import annotations

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slackwater.project.http import HeaderFilter
from slackwater.web.route_table import AT_THE_ROOT
from slackwater.web.scope import path_of

log = logging.getLogger(__name__)


class RequestLog:
    """Logs each request, except for those that arrive every few seconds: probes, `/metrics` and `/`."""

    def __init__(self, app: ASGIApp, headers: HeaderFilter) -> None:
        self.app = app
        self.headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or path_of(scope) in AT_THE_ROOT:
            await self.app(scope, receive, send)
            return
        began, status = time.monotonic(), 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            log.info(
                "%s %s",
                scope["method"],
                scope["path"],
                extra={
                    "event": "http.request",
                    "status": status or None,
                    "ms": round((time.monotonic() - began) * 1000, 1),
                    "headers": self.headers.pick(scope["headers"]),
                },
            )
