"""uvicorn's HTTP connection, with bounds on what comes before anybody is known: the head of a request.

Its parser keeps a header until it is complete, however long it is and however slowly it comes. `slackwater serve` has it;
plain uvicorn takes it by `--http slackwater.web.connection:Connection`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 65_536
HEAD_SECONDS = 10.0
"""From the first byte of a request, or the beginning of the connection, to the end of its headers."""

LOOK_SECONDS = 0.5
"""After that it is looked once more: what had come while the event loop was blocked is read only now."""


TOO_LARGE = b"431 Request Header Fields Too Large"
TOO_LATE = b"408 Request Timeout"


class HeadTooLarge(ValueError):
    """The head of the request has more than 64 kB."""


class Connection(HttpToolsProtocol):
    """One connection. A head that is too large gets 431, one that is late 408, and the connection ends."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._in_head = False
        self._parsed = 0
        """Bytes of the complete parts of the head."""
        self._unparsed = 0
        """Bytes that came after its beginning, complete or not."""
        self._patience: asyncio.TimerHandle | None = None

    # The transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._be_patient()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        begun = self._in_head
        super().data_received(data)
        if self.transport.is_closing() or self.transport.get_protocol() is not self:  # a WebSocket by now
            return
        if begun and self._in_head:
            self._unparsed += len(data)
            if self._unparsed > HEAD_BYTES:
                self._end(TOO_LARGE)
                return
        if not self._is_answering():
            self._await_head()  # also for line ends before a request, which are none

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
        self._be_patient()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        if max(self._parsed, self._unparsed) <= HEAD_BYTES:
            super().send_400_response(msg)
        else:
            self._end(TOO_LARGE)

    def _grow(self, size: int) -> None:
        self._parsed += size
        if self._parsed > HEAD_BYTES:
            raise HeadTooLarge  # which the parser makes an invalid request of

    # Time

    def _await_head(self) -> None:
        if self._patience is None:
            self._patience = self.loop.call_later(HEAD_SECONDS, self._look)

    def _be_patient(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _look(self) -> None:
        self._patience = self.loop.call_later(LOOK_SECONDS, self._is_late)

    def _is_late(self) -> None:
        self._patience = None
        if self._is_answering():
            return  # the next request has time until this one is answered
        if self._in_head:
            self._end(TOO_LATE)
        else:
            self.transport.close()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _end(self, status: bytes) -> None:
        if not self._is_answering():  # or it would be in the middle of that answer
            self.transport.write(
                b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
        self.transport.close()
