"""Claims whose answers were lost: rows that say a run is ours, and nobody here knows of it.

A claim is committed before it is answered. If the connection ends in between, the run would lie idle until its lease
expires. So this process looks for such rows after each failed statement that may have claimed, and now and then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from uuid import UUID

from app.postgres.trouble import DATABASE_TROUBLE

Claim = tuple[UUID, int]
"""A run, and the fence that was taken with it: no other claim has both."""


class LostClaims:
    """Tells a claim whose answer was lost from one whose answer is on its way, and from a run that was given up here."""

    def __init__(self) -> None:
        self._in_flight: set[object] = set()
        self._doubtful: dict[Claim, frozenset[object]] = {}
        """What nobody knows of, and the statements that may still answer for it."""
        self._given_up: set[Claim] = set()
        self.suspected = False
        """A statement has failed that may have claimed something."""

    @contextmanager
    def statement(self) -> Iterator[None]:
        """Around a statement that may claim runs, until what it has claimed has begun."""
        token = object()
        self._in_flight.add(token)
        try:
            yield
        except DATABASE_TROUBLE:
            self.suspected = True
            raise
        finally:
            self._in_flight.discard(token)

    @property
    def in_flight(self) -> bool:
        """Whether a statement may still make a run ours."""
        return bool(self._in_flight)

    def give_up(self, claim: Claim) -> None:
        """It has ended here and is still ours: it is left to its lease. Whoever begins it once more repeats what has failed."""
        self._given_up.add(claim)

    def judge(self, ours: Iterable[Claim], known: Iterable[Claim]) -> list[Claim]:
        """Those of `ours`, as just read, that were lost. `known` are those that are worked on here by now.

        Whatever has made an unknown one ours was sent before it was read: it is in flight, or its answer was lost.
        """
        unknown = set(ours) - set(known)
        self._given_up &= unknown
        unknown -= self._given_up
        doubtful = {claim: self._doubtful.get(claim, frozenset(self._in_flight)) for claim in unknown}
        lost = [claim for claim, senders in doubtful.items() if senders.isdisjoint(self._in_flight)]
        self._doubtful = {claim: senders for claim, senders in doubtful.items() if claim not in lost}
        return lost
