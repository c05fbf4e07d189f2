"""What models have answered: text, and JSON somewhere in it. Pure, and never raises."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)
_END_OF_THOUGHT = "</think>"

_DECODER = json.JSONDecoder(strict=False)
"""A newline inside a string is what some models write."""


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


def without_thoughts(text: str) -> str:
    """What follows the thoughts in it, which may have no end, or no beginning: that may be in the prompt's template."""
    return _THOUGHT.sub("", text).rpartition(_END_OF_THOUGHT)[2]


def arrays_in(text: str, places: int) -> Iterator[list[Any]]:
    """The JSON arrays in a text, inner ones too; tried from so many places."""
    return _json_in(text, "[", places)


def objects_in(text: str, places: int) -> Iterator[dict[str, Any]]:
    """The JSON objects in a text, inner ones too; tried from so many places."""
    return _json_in(text, "{", places)


def _json_in(text: str, opening: str, places: int) -> Iterator[Any]:
    at = -1
    for _ in range(places):
        if (at := text.find(opening, at + 1)) < 0:
            return
        try:
            yield _DECODER.raw_decode(text, at)[0]
        except (ValueError, RecursionError):
            continue
