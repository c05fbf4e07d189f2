"""Where a login may lead to: a path of this server, and nothing else.

Whoever sends somebody a link to the login must not choose where they arrive, believing that they are still here. What a browser, a
proxy or a page's own router makes of a path differs, so that whatever any of them may take for another host is refused.
"""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

MOST = 2000
"""Characters."""
DECODINGS = 5
"""As often as anybody may decode it."""

_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\]")
_EMPTY_SEGMENT = re.compile(r"/[.]{0,2}/")
"""Also `/./` and `/../`, behind which an empty one may hide."""


def is_local(path: str) -> bool:
    """Whether it is a path of this server, which may have a query and a fragment."""
    if len(path) > MOST or not path.startswith("/"):
        return False
    text = re.split("[?#]", path, maxsplit=1)[0]
    if " " in path or _FORBIDDEN.search(path) or not _is_plain(text):
        return False
    for _ in range(DECODINGS):
        decoded = unquote(text)
        if decoded == text:
            return True
        text = decoded
        if not _is_plain(text):
            return False
    return False


def _is_plain(text: str) -> bool:
    if _FORBIDDEN.search(text) or _EMPTY_SEGMENT.search(text):
        return False
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return not parts.scheme and not parts.netloc
