"""What the routes of messages answer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from slackwater.errors import Invalid, NotFound
from slackwater.web.openapi.pieces import Operation, Response, Shape

TAG = "What was said in runs, message by message."


class RecordedMessage(Shape):
    """A message, or something else that was recorded of a run."""

    thread_id: UUID
    run_id: UUID
    event_type: str
    """`llm.human.input`, `llm.ai.response`, `llm.tool.result`, or for example `run.error`."""
    category: str
    """`message` for those that pages show."""
    content: Any
    """The message as the state has it, with the same id, but without the data of images and files."""
    metadata: dict[str, Any]
    """Always with `caller`: `lead_agent`, `subagent:…` or `middleware:…`."""
    seq: int
    """Grows within a thread."""
    created_at: datetime


class MessageWithFeedback(RecordedMessage):
    """A message, and what the caller has said of it."""

    feedback: dict[str, Any] | None
    """With the last answer of a run, what they have said of the run."""


class MessagePage(Shape):
    """Messages in order, and whether there are more on the side where the page was cut."""

    data: list[RecordedMessage]
    has_more: bool


_ROW = {
    "thread_id": "01a21fba-8676-76a5-a0d9-51611efa800d",
    "run_id": "01a21fba-8676-70ea-bac5-b72319f6a44e",
    "event_type": "llm.ai.response",
    "category": "message",
    "content": {"type": "ai", "id": "lc_run--01a21fba", "content": "Hello"},
    "metadata": {"caller": "lead_agent", "latency_ms": 812, "llm_call_index": 0},
    "seq": 1000002,
    "created_at": "2026-11-28T01:00:00.000000+00:00",
}
_PAGE = Response("One page.", MessagePage, {"data": [_ROW], "has_more": False})
_RUN = NotFound("Run not found")
_LIMIT = Invalid("limit: Input should be less than or equal to 200")

_CUT: Mapping[str, dict[str, Any]] = {
    "limit": {"description": "The maximum number of messages."},
    "before_seq": {"description": "The last messages before this `seq`.", "example": 1000002},
    "after_seq": {"description": "The first messages after this `seq`.", "example": 1000001},
}

OPERATIONS: Mapping[str, Operation] = {
    "GET /api/threads/{thread_id}/messages": Operation(
        id="list_thread_messages",
        responses={200: Response("One page.", list[MessageWithFeedback], [{**_ROW, "feedback": None}])},
        parameters=_CUT,
        errors=(NotFound("Thread not found"), _LIMIT),
    ),
    "GET /api/threads/{thread_id}/runs/{run_id}/messages": Operation(
        id="list_run_messages", responses={200: _PAGE}, parameters=_CUT, errors=(_RUN, _LIMIT)
    ),
    "GET /api/threads/{thread_id}/runs/{run_id}/events": Operation(
        id="list_run_events",
        responses={200: Response("What was recorded.", list[RecordedMessage], [_ROW])},
        parameters={
            "after_seq": _CUT["after_seq"],
            "event_types": {
                "description": "Only rows of these types, which commas separate.",
                "example": "run.start,run.end",
            },
        },
        errors=(_RUN, _LIMIT),
    ),
    "GET /api/runs/{run_id}/messages": Operation(
        id="list_messages_of_run", responses={200: _PAGE}, parameters=_CUT, errors=(_RUN, _LIMIT)
    ),
}
