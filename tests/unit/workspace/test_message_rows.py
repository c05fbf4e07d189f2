"""What a page of messages shows beside them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from slackwater.workspace.messages.service import with_feedback

RUN = uuid4()


def row(seq: int, message_id: str | None) -> dict[str, Any]:
    return {
        "thread_id": uuid4(),
        "run_id": RUN,
        "seq": seq,
        "event_type": "llm.ai.response",
        "category": "message",
        "content": {"id": message_id},
        "metadata": {},
        "created_at": datetime.now(UTC),
    }


def test_what_was_said_of_a_run_is_with_its_last_answer_alone() -> None:
    given = {(RUN, None): {"rating": 1}, (RUN, "a"): {"rating": -1}}
    rows = [row(1, None), row(2, "a"), row(3, "b"), row(4, None)]
    shown = with_feedback(rows, given, {4})
    assert [one["feedback"] for one in shown] == [None, {"rating": -1}, None, {"rating": 1}]
