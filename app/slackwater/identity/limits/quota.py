"""What an owner has left of the requests of a minute, and how callers are told.

The header fields are those of draft-ietf-httpapi-ratelimit-headers-10.
"""

from __future__ import annotations

from dataclasses import dataclass

MINUTE = 60_000_000
"""Microseconds."""

_POLICY = '"requests"'


@dataclass(frozen=True, slots=True)
class Quota:
    """A bucket of requests after one was to be taken. It fills steadily, in a minute."""

    per_minute: int
    """How many it holds."""
    full_in: int
    """Microseconds until it is full."""
    taken: bool = True
    """Whether there was one."""

    @property
    def left(self) -> int:
        """How many there are now."""
        return max(0, (MINUTE - self.full_in) // (MINUTE // self.per_minute)) if self.taken else 0

    @property
    def next_in(self) -> int:
        """Whole seconds, at least one, until there is one more."""
        return max(1, _seconds(self.full_in + MINUTE // self.per_minute - MINUTE))


def headers_of(quota: Quota) -> dict[str, str]:
    """`RateLimit-Policy` and `RateLimit`, and `Retry-After` for who is refused."""
    reset = _seconds(quota.full_in) if quota.taken else quota.next_in
    told = {
        "RateLimit-Policy": f"{_POLICY};q={quota.per_minute};w=60",
        "RateLimit": f"{_POLICY};r={quota.left};t={reset}",
    }
    return told if quota.taken else {**told, "Retry-After": str(quota.next_in)}


def _seconds(microseconds: int) -> int:
    """Rounded up."""
    return -(-microseconds // 1_000_000)
