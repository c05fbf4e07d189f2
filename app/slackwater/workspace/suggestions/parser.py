"""Texts out of what people and models have said. Pure, and never raises."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from slackwater.workspace.suggestions.models import ConversationTurn

LATEST = 10
"""So many messages are told to the model."""
MESSAGE_CHARACTERS = 4000
"""So much of each."""
ANSWER_CHARACTERS = 50_000
"""So much of an answer is looked through, and from so many places in it a list is tried: it is whatever a model makes it."""
PLACES = 100

_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)
_END_OF_THOUGHT = "</think>"


def text_of(content: Any) -> str:
    """The text of a message's content: a string, or a list of strings and parts."""
    match content:
        case str():
            return content
        case {"type": "text" | "output_text", "text": str(text)}:
            return text
        case list():
            return "\n".join(filter(None, map(text_of, content)))
    return ""


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
    text = _THOUGHT.sub("", text_of(answer)[:ANSWER_CHARACTERS])
    text = text.rpartition(_END_OF_THOUGHT)[2]  # the beginning may be in the prompt's template
    for found in _arrays(text):
        lines = [" ".join(item.split()) for item in found if isinstance(item, str)]
        if lines := [line for line in lines if line]:
            return lines[:most]
    return []


def _arrays(text: str) -> Iterator[list[Any]]:
    at = -1
    for _ in range(PLACES):
        if (at := text.find("[", at + 1)) < 0:
            return
        try:
            found, _end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, list):
            yield found


_DECODER = json.JSONDecoder(strict=False)
"""A newline inside a string is what some models write."""
