"""Suggestions out of whatever a model answers (Z4, 4.7)."""

from __future__ import annotations

from typing import Any

import pytest

from slackwater.workspace.suggestions.models import ConversationTurn
from slackwater.workspace.suggestions.parser import (
    ANSWER_CHARACTERS,
    LATEST,
    MESSAGE_CHARACTERS,
    conversation,
    suggestions_in,
)


@pytest.mark.parametrize(
    "answer",
    [
        '["a", "b"]',
        '```json\n["a", "b"]\n```',
        'Here you are [1]:\n["a", "b"]\nAnything else?',
        '<think>["no", "never"] or rather</think>["a", "b"]',
        '["no"]</think>["a", "b"]',
        '<THINK>x</THINK>\n["a\n", " b"]',
        '["a", 1, null, {"x": "y"}, "", "  ", "b", "c"]',
        '[["a", "b"]]',
        '{"suggestions": ["a", "b"]}',
        [{"type": "text", "text": '["a", "b"]'}],
        [{"type": "thinking", "thinking": '["no"]'}, '["a",', {"type": "output_text", "text": '"b"]'}],
    ],
)
def test_the_first_array_with_strings_counts(answer: Any) -> None:
    assert suggestions_in(answer, 2) == ["a", "b"]


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "no array",
        "[1, 2]",
        '<think>["a"]',
        '["a"',
        "[" * ANSWER_CHARACTERS,
        None,
        7,
        [{"type": "image"}],
        {"type": "text"},
    ],
)
def test_there_may_be_none(answer: Any) -> None:
    assert suggestions_in(answer, 5) == []


def test_newlines_are_flattened() -> None:
    assert suggestions_in('["one\\n\\n  two\ttwo", "three\nfour"]', 5) == ["one two two", "three four"]


def test_a_conversation_is_text_with_speakers() -> None:
    messages = [
        ConversationTurn(role="user", content="hello"),
        ConversationTurn(
            role="assistant", content=[{"type": "text", "text": "a"}, {"type": "image_url"}, "b"]
        ),
        ConversationTurn(role="human", content="x" * 2 * MESSAGE_CHARACTERS),
        ConversationTurn(role="user", content=[{"type": "image_url"}]),
        ConversationTurn(role="user"),
    ]
    assert conversation(messages) == f"User: hello\n\nAssistant: a\nb\n\nUser: {'x' * MESSAGE_CHARACTERS}"
    assert conversation(messages[3:]) == ""
    assert (
        conversation([ConversationTurn(role="user", content=str(n)) for n in range(99)]).count("User: ")
        == LATEST
    )
