"""Which bytes of a file were asked for (RFC 9110)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from slackwater.errors import ApiError

_RANGE = re.compile(r"\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", re.IGNORECASE)


class RangeNotSatisfiable(ApiError):
    """The file has no such bytes."""

    status = 416

    def __init__(self, size: int = 0) -> None:
        super().__init__()
        self.headers = {"Content-Range": f"bytes */{size}"}


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A part of a file; both ends belong to it."""

    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start + 1


def range_of(headers: Mapping[str, str], etag: str, size: int) -> ByteRange | None:
    """The part that was asked for; None for the whole, as also for several parts. Raises RangeNotSatisfiable."""
    asked = headers.get("range")
    if asked is None or headers.get("if-range", etag) != etag:
        return None
    found = _RANGE.fullmatch(asked)
    if found is None or found.groups() == ("", ""):
        return None
    first, last = (number[:20] for number in found.groups())
    if not first:
        if not int(last) or not size:
            raise RangeNotSatisfiable(size)
        return ByteRange(max(0, size - int(last)), size - 1)
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        raise RangeNotSatisfiable(size)
    return ByteRange(int(first), min(int(last) if last else size - 1, size - 1))


def is_known(headers: Mapping[str, str], etag: str) -> bool:
    """Whether the client has this version already: 304."""
    asked = headers.get("if-none-match")
    if asked is None:
        return False
    return asked.strip() == "*" or etag in (tag.strip().removeprefix("W/") for tag in asked.split(","))
