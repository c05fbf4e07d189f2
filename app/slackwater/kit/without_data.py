"""Messages without the bytes of images and files, which are in the state, and would only make their history long."""

from __future__ import annotations

import re
from typing import Any

MARKER = "[left out]"

_DATA_URL = re.compile(r"(data:[\w.+-]+/[\w.+-]+(?:;[\w=.+-]+)*;base64,)[A-Za-z0-9+/=_-]+")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{64,256}")
_BINARY_KEYS = ("data", "base64", "file_data")
_KINDS = frozenset({"media_type", "mime_type", "format"})
_TYPES = ("image", "audio", "video", "file", "input_audio", "media", "base64")


def without_data(value: Any) -> Any:
    """`value`, with a marker in place of data in base64: in data URLs, and in the blocks of a message's content."""
    if isinstance(value, str):
        return _DATA_URL.sub(rf"\1{MARKER}", value) if ";base64," in value else value
    if isinstance(value, list):
        return [without_data(item) for item in value]
    if isinstance(value, dict):
        binary = value.get("type") in _TYPES or not _KINDS.isdisjoint(value)
        return {
            key: MARKER if binary and key in _BINARY_KEYS and _is_data(item) else without_data(item)
            for key, item in value.items()
        }
    return value


def _is_data(item: Any) -> bool:
    return isinstance(item, bytes) or (isinstance(item, str) and _BASE64.match(item) is not None)
