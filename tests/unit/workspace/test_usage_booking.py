"""What a call of a model outside of runs has cost: counted, or its loss is told."""

from __future__ import annotations

import logging
from typing import Any, cast
from uuid import uuid4

import pytest
from langchain_core.messages import AIMessage

from slackwater.kit.tokens import model_of
from slackwater.workspace.usage import service as usage


class Away:
    """A database that cannot be asked."""

    async def execute(self, *_: Any) -> int:
        raise OSError("away")

    fetch = fetch_one = execute


async def test_tokens_that_cannot_be_counted_cost_nobody_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    used = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    answer = AIMessage("yes", usage_metadata=cast("Any", used))

    with caplog.at_level(logging.WARNING):
        await usage.book(cast("Any", Away()), "ann", uuid4(), "suggestions", "a-model", answer)

    (line,) = caplog.records
    assert (line.__dict__["event"], line.__dict__["error"]) == ("usage.lost", "OSError")


@pytest.mark.parametrize(
    ("answered", "name"),
    [
        ({"model_name": "a-2"}, "a-2"),
        ({"model": "a-1"}, "a-1"),
        ({}, "asked"),
        ({"model_name": "a\x00"}, "a\ufffd"),
        ({"model_name": "a" * 300}, "a" * 200),
    ],
)
def test_the_model_that_has_answered(answered: dict[str, Any], name: str) -> None:
    assert model_of(answered, "asked") == name
