"""What the last answer of a run says of itself."""

from __future__ import annotations

from typing import Any

import pytest

from slackwater.kit import json_format
from slackwater.runtime.execution.own_failure import own_failure

HUMAN = {"type": "human", "content": "a", "additional_kwargs": {}}
FAILED = {
    "type": "ai",
    "content": "Sorry.",
    "additional_kwargs": {"deerflow_error_fallback": True, "error_detail": "away", "error_reason": "r"},
}
FINE = {"type": "ai", "content": "deerflow_error_fallback", "additional_kwargs": {}}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"messages": [HUMAN, FAILED]}, "away"),
        ({"messages": [HUMAN, FAILED, {"type": "system", "content": ""}]}, "away"),
        ({"messages": [HUMAN, {**FAILED, "additional_kwargs": {"deerflow_error_fallback": True}}]}, "Sorry."),
        ({"messages": [HUMAN, FAILED, HUMAN, FINE]}, None),  # an earlier run's
        ({"messages": [HUMAN, FAILED, FINE]}, None),  # it was tried again
        ({"messages": [HUMAN, FAILED, HUMAN]}, None),
        ({"messages": [HUMAN, FINE]}, None),
        ({"messages": "x", "additional_kwargs": {"deerflow_error_fallback": True}}, None),
        ({"messages": ["x", None], "y": {"deerflow_error_fallback": True}}, None),
        ([{"deerflow_error_fallback": True}], None),
        (None, None),
    ],
)
def test_only_a_marked_last_answer_is_a_failure(values: Any, message: str | None) -> None:
    found = own_failure(None if values is None else json_format.dumps(values))
    assert (found and found["message"]) == message
