"""What the writer knows of LangGraph without importing it."""

from __future__ import annotations

from langgraph.checkpoint.serde.types import RESUME
from langgraph.pregel._loop import NULL_TASK_ID

from slackwater.runtime.fenced import writer


def test_langgraph_still_calls_an_answer_and_no_task_as_the_writer_does() -> None:
    assert writer.RESUME == RESUME
    assert writer.NULL_TASK_ID == NULL_TASK_ID
