"""How callers are told why a request is not carried out: over HTTP, by WebSocket, on AWS Lambda, in the app or before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.types import Receive, Scope, Send

from slackwater.errors import ApiError, NotFound
from slackwater.kit import json_format

REFUSED = 4000
"""Plus the status that the answer to a request would have: the close codes that the SDKs know."""

REASON_BYTES = 123
"""What a close frame holds."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer: its status, `{"detail": …}`, its headers."""

    status: int
    message: str
    headers: Mapping[str, str]
    """Those besides the body's own."""
    detail: object = None
    """What the body says, if that is more than the message."""

    @classmethod
    def of(cls, error: ApiError) -> Refusal:
        """The answer that an error is."""
        return cls(error.status, error.message, error.headers, error.detail)

    def __str__(self) -> str:
        """In one string, for protocols whose errors have no status of their own."""
        return f"{self.status}: {self.message}"

    @property
    def body(self) -> bytes:
        return json_format.dumps({"detail": self.message if self.detail is None else self.detail})

    @property
    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """As ASGI has them, without the length of the body."""
        headers = {"content-type": "application/json", **self.headers}
        return [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    @property
    def close_code(self) -> int:
        return REFUSED + self.status

    @property
    def reason(self) -> str:
        """As much of the message as a close frame holds."""
        return self.message.encode()[:REASON_BYTES].decode(errors="ignore")


async def refuse(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    """Say no to a request, or to a WebSocket."""
    refusal = Refusal.of(error)
    if scope["type"] == "http":
        await _answer(refusal, send)
    else:
        await _close(refusal, receive, send)


async def absent(scope: Scope, receive: Receive, send: Send) -> None:
    """404, in the words of the API; a WebSocket is not accepted."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1000})
    else:
        await _answer(Refusal.of(NotFound()), send)


async def _answer(refusal: Refusal, send: Send) -> None:
    body = refusal.body
    headers = [*refusal.raw_headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _close(refusal: Refusal, receive: Receive, send: Send) -> None:
    """By a close code: a browser cannot read the status of a handshake that is refused."""
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": refusal.close_code, "reason": refusal.reason})
