"""Identifiers of threads and runs."""

from __future__ import annotations

import os
import time
from uuid import UUID

from slackwater.errors import Invalid


def uuid7() -> UUID:
    """A UUID version 7 (RFC 9562): milliseconds since the epoch, then random bits; sorts by age."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    return UUID(int=value & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62)


def parse_uuid(text: str, what: str) -> UUID:
    """The UUID in a path or body. Raises Invalid (422), naming `what` it should have been."""
    try:
        return UUID(text)
    except ValueError:
        raise Invalid(f"Invalid {what} ID: must be a UUID") from None


def parse_canonical(text: str, what: str) -> UUID:
    """The same, for who writes it as it is stored: 32 digits, lower-case, in five groups. Raises Invalid."""
    value = parse_uuid(text, what)
    if str(value) != text:
        raise Invalid(f"Invalid {what} ID: write it as {value}")
    return value
