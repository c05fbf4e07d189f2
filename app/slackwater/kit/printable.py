"""Strings of callers, for a terminal or for a log that is read line by line."""

from __future__ import annotations

import re

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""C0 and C1, separators of lines and paragraphs, what turns the direction of writing, and halves of surrogates."""

_LEFT_BY_JSON = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(value: object) -> str:
    """`str(value)` on one line, with what a terminal would obey escaped: a line break is `\\n` then, ESC is `\\x1b`."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), str(value))


def printable_json(document: str) -> str:
    """The same for a JSON document that escapes what JSON asks for: others read a line break in U+2028, say."""
    return _LEFT_BY_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", document)
