"""JSON on its way into and out of `jsonb` columns, for everything that goes through psycopg's `Jsonb`."""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

# An escaped backslash is consumed first: `\\u0000` are six harmless characters.
_NUL = re.compile(rb"\\\\|\\u0000")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}".encode()

# Where a number begins, and its digits, told apart from digits inside strings (LangGraph's versions are full of them).
_SHAPE = bytes.maketrans(b"123456789 ,:-", b"000000000[[[[")
_LONG_NUMBER = b"[" + b"0" * 19


def dumps(value: Any) -> bytes:
    """JSON that `jsonb` takes: NUL and lone surrogates become U+FFFD. Raises TypeError for other objects."""
    try:
        text = orjson.dumps(value)
    except TypeError:
        text = _dumps_slowly(value)
    if b"\\u0000" in text:
        text = _NUL.sub(lambda match: match[0] if match[0] == rb"\\" else _REPLACEMENT, text)
    return text


def loads(text: str | bytes) -> Any:
    """The value; integers of any size stay integers."""
    data = text.encode() if isinstance(text, str) else text
    if _LONG_NUMBER in (b"," + data).translate(_SHAPE):
        return json.loads(data)  # orjson makes floats of integers beyond 64 bits
    return orjson.loads(data)


def _dumps_slowly(value: Any) -> bytes:
    """For keys that are not strings (three times the time), integers beyond 64 bits and lone surrogates."""
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        text = json.dumps(value, ensure_ascii=False)
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()
