"""The body of `/wait` and `/join`, made from a run's events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from slackwater.kit.json_format import dumps, plain_error
from slackwater.kit.reserved import INTERRUPT

_INTERRUPT_KEY = f'"{INTERRUPT}"'.encode()


class Collector:
    """Takes a run's events in order, and has the response at any moment.

    Only the root graph's `values` and `updates` count. If both have the same interrupt, the `values` are kept.
    """

    def __init__(self) -> None:
        self._error: bytes | None = None
        self._values: bytes | None = None
        self._feedback: bytes | None = None
        self._interrupts: dict[tuple[str, ...], tuple[list[Any], bytes]] = {}

    def feed(self, name: str, data: bytes) -> None:
        """Take the next event."""
        match name:
            case "error":
                self._error = data
            case "feedback":
                self._feedback = data
            case "values" | "updates" if interrupts := _interrupts_in(data):
                ids = tuple(str(interrupt.get("id")) for interrupt in interrupts)
                if name == "values" or ids not in self._interrupts:
                    self._interrupts[ids] = (interrupts, data)
            case "values":
                self._values = data

    @property
    def silent(self) -> bool:
        """Whether no event so far makes a response."""
        return self._said() is None

    def body(self, fallback_thread: Mapping[str, Any] | None) -> bytes:
        """The response as JSON; `fallback_thread` is the thread's row, for a run without events.

        * an error: `{"__error__": {"error", "message"}}`
        * one interrupt: the chunk that holds it; several: `{"__interrupt__": [all of them]}`
        * otherwise the last `values`
        """
        body = self._said()
        if body is None:
            body = _fallback(fallback_thread)
        if self._feedback is not None and isinstance(answer := orjson.loads(body), dict):
            body = dumps({**answer, "__feedback__": orjson.loads(self._feedback)})
        return body

    def _said(self) -> bytes | None:
        if self._error is not None:
            return b'{"__error__":%b}' % self._error
        chunks = list(self._interrupts.values())
        if len(chunks) == 1:
            return chunks[0][1]
        if chunks:
            return dumps({INTERRUPT: [interrupt for interrupts, _ in chunks for interrupt in interrupts]})
        return self._values


def _interrupts_in(data: bytes) -> list[Any]:
    if _INTERRUPT_KEY not in data:
        return []
    chunk = orjson.loads(data)
    interrupts = chunk.get(INTERRUPT) if isinstance(chunk, dict) else None
    return interrupts if isinstance(interrupts, list) else []


def _fallback(thread: Mapping[str, Any] | None) -> bytes:
    if thread is None:
        return b"{}"
    if thread["status"] == "error" and thread.get("error"):
        return dumps({"__error__": plain_error(thread["error"])})
    stored = [interrupt for of_task in (thread.get("interrupts") or {}).values() for interrupt in of_task]
    if thread["status"] == "interrupted" and stored:
        return dumps({INTERRUPT: stored})
    values = thread.get("values")
    return dumps({} if values is None else values)
