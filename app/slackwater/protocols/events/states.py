"""States as protocol v2 shows them: without interrupts, their messages without what is empty, content in its blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slackwater.kit.reserved import INTERRUPT

_ROLES = {"user": "human", "assistant": "ai"}
_MESSAGES = frozenset({"human", "ai", "system", "tool", "function", "remove", *_ROLES})
_BLOCKS = frozenset(
    {
        "text",
        "reasoning",
        "tool_call",
        "tool_call_chunk",
        "invalid_tool_call",
        "server_tool_call",
        "server_tool_call_chunk",
        "server_tool_call_result",
        "image",
        "audio",
        "video",
        "file",
        "non_standard",
    }
)


def shown(value: Any) -> Any:
    """The JSON of a state, or of an update of one, as it is shown."""
    if isinstance(value, list):
        return [_message(item) if is_message(item) else shown(item) for item in value]
    if is_message(value):
        return _message(value)
    if isinstance(value, dict):
        return {key: shown(item) for key, item in value.items() if key != INTERRUPT}
    return value


def is_message(value: Any) -> bool:
    """Whether it is a message as LangChain writes one, and not some object of the graph's own with a `type`."""
    return (
        isinstance(value, dict)
        and value.get("type") in _MESSAGES
        and "content" in value
        and "response_metadata" in value
    )


def _message(value: Mapping[str, Any]) -> dict[str, Any]:
    message = {
        "type": _ROLES.get(value["type"], value["type"]),
        "content": _content(value["content"]),
    }
    message |= {
        key: item
        for key, item in value.items()
        if key not in message and item is not None and item != [] and item != {}
    }
    for name, kind in (("tool_calls", "tool_call"), ("invalid_tool_calls", "invalid_tool_call")):
        if name in message:
            message[name] = [{**call, "type": kind} for call in message[name]]
    return message


def _content(content: Any) -> Any:
    return [_block(item) for item in content] if isinstance(content, list) else content


def _block(block: Any) -> Any:
    if isinstance(block, str):
        return {"type": "text", "text": block}
    if not isinstance(block, dict) or block.get("type") in _BLOCKS:
        return block
    if block.get("type") == "image_url":
        image = block.get("image_url")
        url = image.get("url") if isinstance(image, dict) else image
        if isinstance(url, str):
            return {"type": "image", "url": url}
    if block.get("type") == "input_audio" and isinstance(block.get("input_audio"), dict):
        audio = block["input_audio"]
        return {"type": "audio", **{key: audio[key] for key in ("data", "mime_type") if key in audio}}
    return {"type": "non_standard", "value": block}
