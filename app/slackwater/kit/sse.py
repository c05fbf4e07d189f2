"""Server-sent events, as bytes."""

from __future__ import annotations

MEDIA_TYPE = "text/event-stream"
HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
"""So that nothing in between keeps a stream, or collects it."""

HEARTBEAT = b": heartbeat\r\n\r\n"
"""A comment, which clients ignore: it keeps the connection in use."""


def frame(event: str, data: bytes | str, event_id: str | None) -> bytes:
    """One event; `data` is a single line."""
    payload = data if isinstance(data, bytes) else data.encode()
    if event_id is None:
        return b"event: %b\r\ndata: %b\r\n\r\n" % (event.encode(), payload)
    return b"event: %b\r\ndata: %b\r\nid: %b\r\n\r\n" % (event.encode(), payload, event_id.encode())


def id_only(event_id: str) -> bytes:
    """Moves a client's `Last-Event-ID` without an event."""
    return b"id: %b\r\n\r\n" % event_id.encode()
