"""What the rows that are stored know of LangGraph without importing it."""

from __future__ import annotations

from langgraph.checkpoint.serde.types import RESUME
from langgraph.pregel._loop import NULL_TASK_ID

from slackwater.runtime.fenced import group


def test_langgraph_still_calls_an_answer_and_no_task_as_its_rows_do() -> None:
    assert group.RESUME == RESUME
    assert group.NULL_TASK_ID == NULL_TASK_ID
