"""How callers are told that they may not come in, before there is a route."""

from __future__ import annotations

import orjson
from starlette.types import Receive, Scope, Send

from slackwater.errors import ApiError

REFUSED = 4000
"""Plus the status that the answer to a request would have: the close codes that the SDKs know."""

REASON_BYTES = 123
"""What a close frame holds."""


async def refuse(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    """Say no to a request, or to a WebSocket."""
    if scope["type"] == "http":
        await _answer(error, send)
    else:
        await refuse_socket(error, receive, send)


async def refuse_socket(error: ApiError, receive: Receive, send: Send) -> None:
    """Say no to a WebSocket, by a close code: a browser cannot read the status of a handshake that is refused."""
    await receive()
    await send({"type": "websocket.accept"})
    reason = error.message.encode()[:REASON_BYTES].decode(errors="ignore")
    await send({"type": "websocket.close", "code": REFUSED + error.status, "reason": reason})


async def _answer(error: ApiError, send: Send) -> None:
    body = orjson.dumps({"detail": error.message})
    headers = {"content-type": "application/json", "content-length": str(len(body)), **error.headers}
    await send(
        {
            "type": "http.response.start",
            "status": error.status,
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": body})
