"""Claims whose answers were lost: rows that say a run is ours, and nobody here knows of it.

A claim is committed before it is answered. If the connection ends in between, the run would lie idle until its lease
expires. So this process looks for such rows after each failed statement that may have claimed, and now and then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from uuid import UUID

from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE

Claim = tuple[UUID, int]
"""A run, and the fence that was taken with it: no other claim has both."""

REMEMBERED = 10_000
"""So many claims that began here are remembered. A failover may bring one back whose end it has forgotten."""


class LostClaims:
    """Tells a claim whose answer was lost from one whose answer is on its way, and from a run that has been begun here."""

    def __init__(self) -> None:
        self._in_flight: set[object] = set()
        self._doubtful: dict[Claim, frozenset[object]] = {}
        """What nobody knows of, and the statements that may still answer for it."""
        self.begun: dict[Claim, None] = {}
        """In order. What has ended here and is ours all the same is left to its lease: under one fence nothing is said twice."""
        self.suspected = False
        """A statement has failed that may have claimed something."""

    @contextmanager
    def statement(self) -> Iterator[None]:
        """Around a statement that may claim runs, until what it has claimed has begun."""
        token = object()
        self._in_flight.add(token)
        try:
            yield
        except DATABASE_UNAVAILABLE:
            self.suspected = True
            raise
        finally:
            self._in_flight.discard(token)

    @property
    def in_flight(self) -> bool:
        """Whether a statement may still make a run ours."""
        return bool(self._in_flight)

    def begin(self, claim: Claim) -> bool:
        """Whether the claim may begin here: once, however often it is heard of."""
        if claim in self.begun:
            return False
        self.begun[claim] = None
        if len(self.begun) > REMEMBERED:
            del self.begun[next(iter(self.begun))]
        return True

    def judge(self, ours: Iterable[Claim]) -> list[Claim]:
        """Those of `ours`, as just read, that were lost.

        Whatever has made an unknown one ours was sent before it was read: it is in flight, or its answer was lost.
        """
        unknown = [claim for claim in ours if claim not in self.begun]
        doubtful = {claim: self._doubtful.get(claim, frozenset(self._in_flight)) for claim in unknown}
        lost = [claim for claim, senders in doubtful.items() if senders.isdisjoint(self._in_flight)]
        self._doubtful = {claim: senders for claim, senders in doubtful.items() if claim not in lost}
        return lost
