"""uvicorn's HTTP connection, with limits on what precedes authentication: the head of a request.

uvicorn's parser buffers a header until it is complete, however long it is and however slowly it arrives. `slackwater serve` uses
this class; for plain uvicorn pass `--http slackwater.web.connection:Connection`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 65_536
HEAD_SECONDS = 10.0
"""From the first byte of a request, or the start of the connection, to the end of the headers."""

LOOK_SECONDS = 0.5
"""Added before the timeout takes effect: what arrived while the event loop was blocked is read only now."""


TOO_LARGE = b"431 Request Header Fields Too Large"
TOO_LATE = b"408 Request Timeout"


class HeadTooLarge(ValueError):
    """The head of the request has more than 64 kB."""


class Connection(HttpToolsProtocol):
    """One connection. A head that is too large gets 431, one that is too slow 408, and the connection is closed."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._in_head = False
        self._parsed = 0
        """Bytes of the head that have been parsed."""
        self._unparsed = 0
        """Bytes received after the start of the head, parsed or not."""
        self._head_timer: asyncio.TimerHandle | None = None

    # The transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        begun = self._in_head
        super().data_received(data)
        if self.transport.is_closing() or self.transport.get_protocol() is not self:  # a WebSocket by now
            return
        if begun and self._in_head:
            self._unparsed += len(data)
            if self._unparsed > HEAD_BYTES:
                self._refuse(TOO_LARGE)
                return
        if not self._is_responding():
            self._start_timer()  # also for blank lines before a request

    # The parser

    def on_message_begin(self) -> None:
        self._in_head = True
        self._parsed = self._unparsed = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._grow(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._grow(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._cancel_timer()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        if max(self._parsed, self._unparsed) <= HEAD_BYTES:
            super().send_400_response(msg)
        else:
            self._refuse(TOO_LARGE)

    def _grow(self, size: int) -> None:
        self._parsed += size
        if self._parsed > HEAD_BYTES:
            raise HeadTooLarge  # which the parser reports as an invalid request

    # Time

    def _start_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._last_look)

    def _cancel_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _last_look(self) -> None:
        self._head_timer = self.loop.call_later(LOOK_SECONDS, self._timed_out)

    def _timed_out(self) -> None:
        self._head_timer = None
        if self._is_responding():
            return  # the next request need not begin before this response ends
        if self._in_head:
            self._refuse(TOO_LATE)
        else:
            self.transport.close()

    def _is_responding(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, status: bytes) -> None:
        if not self._is_responding():  # or it would end up in the middle of that response
            self.transport.write(
                b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
        self.transport.close()
