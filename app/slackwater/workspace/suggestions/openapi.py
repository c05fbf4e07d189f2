"""What the route of suggestions answers."""

from __future__ import annotations

from collections.abc import Mapping

from slackwater.errors import ConfigurationUnusable, NotFound
from slackwater.web.openapi.pieces import Operation, Response, Shape

TAG = "What a user may ask next."


class SuggestionsMade(Shape):
    """As many as were wanted, or fewer; none if there is no model, or if it does not answer in time."""

    suggestions: list[str]


OPERATIONS: Mapping[str, Operation] = {
    "POST /api/threads/{thread_id}/suggestions": Operation(
        id="suggest",
        responses={
            200: Response(
                "The suggestions.", SuggestionsMade, {"suggestions": ["And tomorrow?", "Why is that?"]}
            )
        },
        bodies={
            "after an answer": {
                "messages": [
                    {"role": "user", "content": "Will it rain today?"},
                    {"role": "assistant", "content": "In the evening."},
                ],
                "n": 2,
                "model_name": "fast",
            }
        },
        errors=(NotFound, ConfigurationUnusable),
    ),
}
