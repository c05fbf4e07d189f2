"""What was said, of the messages of a graph. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from slackwater.workspace.answers import text_of

LATEST = 40
MESSAGE_CHARACTERS = 4000
"""So much of each of so many messages is kept for the model."""

_SPEAKERS = {"human": "user", "user": "user", "ai": "assistant", "assistant": "assistant"}
_UPLOADS = re.compile(r"<uploaded_files>.*?(?:</uploaded_files>|\Z)", re.DOTALL)
"""What DeerFlow's graph puts in front of a message: the files are the thread's, and soon gone."""


def said(messages: Iterable[Any]) -> list[dict[str, str]]:
    """What users and answers say, `{"role", "content"}` each; nothing if no user says anything."""
    turns = [turn for message in messages if (turn := _turn(message)) is not None][-LATEST:]
    return turns if any(turn["role"] == "user" for turn in turns) else []


def _turn(message: Any) -> dict[str, str] | None:
    if isinstance(message, tuple) and len(message) == 2:
        message = {"role": message[0], "content": message[1]}
    parts = message if isinstance(message, Mapping) else vars(message) if hasattr(message, "__dict__") else {}
    speaker = _SPEAKERS.get(str(parts.get("type") or parts.get("role")).removesuffix("MessageChunk").lower())
    more = parts.get("additional_kwargs")
    if speaker is None or parts.get("tool_calls") or (isinstance(more, Mapping) and more.get("hide_from_ui")):
        return None
    text = _UPLOADS.sub("", text_of(parts.get("content"))).strip()
    return {"role": speaker, "content": text[:MESSAGE_CHARACTERS]} if text else None
