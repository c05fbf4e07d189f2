"""What the routes of feedback answer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal
from uuid import UUID

from slackwater.errors import BadRequest, Invalid, NotFound
from slackwater.web.openapi.pieces import Operation, Response, Shape

TAG = "What users think of runs and messages."


class Feedback(Shape):
    """What a user has said of a run, or of one of its messages."""

    feedback_id: UUID
    run_id: UUID
    thread_id: UUID
    user_id: str
    message_id: str | None
    """None: of the run as a whole."""
    rating: Literal[1, -1]
    comment: str | None
    created_at: datetime


class FeedbackStats(Shape):
    """How many have said what."""

    run_id: UUID
    total: int
    positive: int
    negative: int


class FeedbackGone(Shape):
    """It was deleted."""

    success: bool


_RUN_ID = "01a21fba-8676-70ea-bac5-b72319f6a44e"
_ONE = {
    "feedback_id": "01a21fba-9000-7000-8000-000000000001",
    "run_id": _RUN_ID,
    "thread_id": "01a21fba-8676-76a5-a0d9-51611efa800d",
    "user_id": "alice",
    "message_id": None,
    "rating": 1,
    "comment": "Just what I needed",
    "created_at": "2026-11-28T01:00:00.000000+00:00",
}
_GIVEN = {"up": {"rating": 1, "comment": "Just what I needed"}}
_RUN = NotFound("Run not found")
_ID = Invalid("Invalid run ID: must be a UUID")
_RATING = BadRequest("rating must be +1 or -1")
_PATH = "/api/threads/{thread_id}/runs/{run_id}/feedback"
_FEEDBACK = Response("What was said.", Feedback, _ONE)
_LIST = Response("What was said.", list[Feedback], [_ONE])
_GONE = Response("It is gone.", FeedbackGone, {"success": True})

OPERATIONS: Mapping[str, Operation] = {
    f"PUT {_PATH}": Operation(
        id="put_feedback", responses={200: _FEEDBACK}, bodies=_GIVEN, errors=(_RATING, _RUN, _ID)
    ),
    f"POST {_PATH}": Operation(
        id="post_feedback", responses={200: _FEEDBACK}, bodies=_GIVEN, errors=(_RATING, _RUN, _ID)
    ),
    f"GET {_PATH}": Operation(id="list_feedback", responses={200: _LIST}, errors=(_RUN, _ID)),
    f"GET {_PATH}/stats": Operation(
        id="get_feedback_stats",
        responses={
            200: Response(
                "How many.",
                FeedbackStats,
                {"run_id": _RUN_ID, "total": 1, "positive": 1, "negative": 0},
            )
        },
        errors=(_RUN, _ID),
    ),
    f"DELETE {_PATH}": Operation(
        id="delete_all_feedback", responses={200: _GONE}, errors=(NotFound("Feedback not found"), _ID)
    ),
    f"DELETE {_PATH}/{{feedback}}": Operation(
        id="delete_feedback",
        responses={200: _GONE},
        parameters={
            "feedback": {
                "description": "The id of one's feedback.",
                "schema": {"type": "string", "format": "uuid"},
                "example": _ONE["feedback_id"],
            }
        },
        errors=(NotFound("Feedback not found"), _ID),
    ),
    "GET /api/runs/{run_id}/feedback": Operation(
        id="list_feedback_of_run", responses={200: _LIST}, errors=(_RUN, _ID)
    ),
}
