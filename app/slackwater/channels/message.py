"""What comes in by a channel, whatever its kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message whose sender is known: the delivery is signed."""

    delivery_id: str
    """The same each time it is brought."""
    conversation_id: str
    input: Mapping[str, Any] | list[Any]
    """Of the run."""
    user: str | None = None
    """Who says it, as the channel names them."""
    place: Mapping[str, Any] | None = None
    """Where a chat is to show the answer."""
    begins: bool = True
    """Whether it may begin a conversation. If not, it is for one that there is already."""


def said(text: str) -> dict[str, Any]:
    """The input of a run to which somebody says this."""
    return {"messages": [{"role": "human", "content": text}]}


def answer_in(values: object) -> str | None:
    """What a model has answered to the last message of a person, in the values of a thread; None if it has not."""
    messages = values.get("messages") if isinstance(values, Mapping) else None
    for message in reversed(messages if isinstance(messages, list) else []):
        if not isinstance(message, Mapping) or message.get("type") == "human":
            return None
        if message.get("type") == "ai" and (text := _text(message.get("content")).strip()):
            return text
    return None


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part if isinstance(part, str) else _of_part(part) for part in parts]
    return "".join(text for text in texts if isinstance(text, str))


def _of_part(part: object) -> object:
    return part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None
