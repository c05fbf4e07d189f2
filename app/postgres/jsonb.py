"""JSON on its way into and out of `jsonb` columns."""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

# An escaped backslash is consumed first: `\\u0000` are six harmless characters.
_NUL = re.compile(rb"\\\\|\\u0000")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}".encode()


def dumps(value: Any) -> bytes:
    """JSON that `jsonb` takes: NUL and lone surrogates become U+FFFD. Raises TypeError for other objects."""
    try:
        text = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        text = _with_stdlib(value)
    if b"\\u0000" in text:
        text = _NUL.sub(lambda match: match[0] if match[0] == rb"\\" else _REPLACEMENT, text)
    return text


def loads(text: bytes | str) -> Any:
    return orjson.loads(text)


def _with_stdlib(value: Any) -> bytes:
    """For integers beyond 64 bits and lone surrogates, which orjson refuses."""
    text = json.dumps(value, ensure_ascii=False)
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()
