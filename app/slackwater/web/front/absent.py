"""The answer where nothing is."""

from __future__ import annotations

from starlette.types import Receive, Scope, Send

from slackwater.web.http import json_response


async def absent(scope: Scope, receive: Receive, send: Send) -> None:
    """404, in the words of the API; a WebSocket is not accepted."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1000})
    else:
        await json_response({"detail": "Not Found"}, 404)(scope, receive, send)
