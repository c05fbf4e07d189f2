"""Texts out of what people and models have said. Pure, and never raises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slackwater.workspace.answers import arrays_in, text_of, without_thoughts
from slackwater.workspace.suggestions.models import ConversationTurn

LATEST = 10
"""So many messages are told to the model."""
MESSAGE_CHARACTERS = 4000
"""So much of each."""
ANSWER_CHARACTERS = 50_000
"""So much of an answer is looked through, and from so many places in it a list is tried: it is whatever a model makes it."""
PLACES = 100


def conversation(messages: Sequence[ConversationTurn]) -> str:
    """The last messages that say anything, one paragraph each; empty if none does."""
    told = [(said.role, text_of(said.content).strip()) for said in messages]
    lines = [f"{_speaker(role)}: {text[:MESSAGE_CHARACTERS]}" for role, text in told if text]
    return "\n\n".join(lines[-LATEST:])


def _speaker(role: str) -> str:
    return "User" if role.lower() in ("user", "human") else "Assistant"


def suggestions_in(answer: Any, most: int) -> list[str]:
    """The first `most` suggestions of a model's answer: of the first JSON array in it that has strings.

    There may be prose or a code fence around the array, and thoughts in front of it, which may have no end.
    """
    for found in arrays_in(without_thoughts(text_of(answer)[:ANSWER_CHARACTERS]), PLACES):
        lines = [" ".join(item.split()) for item in found if isinstance(item, str)]
        if lines := [line for line in lines if line]:
            return lines[:most]
    return []
