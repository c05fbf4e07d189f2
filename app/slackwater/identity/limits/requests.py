"""Requests per minute: one is taken from its owner's bucket in the database before a request is answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from slackwater.errors import TooManyRequests
from slackwater.identity.limits import queries
from slackwater.identity.limits.quota import Quota, headers_of
from slackwater.kit.moment import Moment
from slackwater.postgres.pool import Database

FRESH_SECONDS = 4.0
"""For so long nobody asks again whether an owner without a limit has one; then one request does."""

STALE_SECONDS = 8.0
"""After this time each request asks: nobody relies any more on what was found."""

KNOWN = 10_000
"""How many owners without a limit are remembered."""


@dataclass(slots=True)
class Unlimited:
    """An owner who had no limit when the database was asked."""

    asked: Moment = field(default_factory=Moment.now)
    """Before the question."""
    asking: bool = False


class RequestLimits:
    """Belongs to the event loop of the process."""

    def __init__(self, database: Database, per_minute: int) -> None:
        """`per_minute`: of owners who have no limit of their own; 0: no limit."""
        self._database = database
        self._default = per_minute
        self._unlimited: dict[str, Unlimited] = {}

    async def take(self, owner: str) -> Mapping[str, str]:
        """Count one request of the owner; the headers that tell what is left. Raises TooManyRequests.

        One statement, which also finds the owner's limit; while it is known that there is none, no statement.
        """
        known = self._unlimited.get(owner)
        if known is not None:
            age = known.asked.age
            if age < STALE_SECONDS and (known.asking or age < FRESH_SECONDS):
                return {}
            known.asking = True
        try:
            quota = await self._take(owner)
        finally:
            if known is not None:
                known.asking = False
        if quota is None:
            return {}
        told = headers_of(quota)
        if not quota.taken:
            raise TooManyRequests(told)
        return told

    async def _take(self, owner: str) -> Quota | None:
        asked = Moment.now()
        row = await queries.take(self._database, owner, self._default)
        self._unlimited.pop(owner, None)
        if row["per_minute"]:
            return Quota(row["per_minute"], row["full_in"], row["taken"])
        if len(self._unlimited) >= KNOWN:
            del self._unlimited[next(iter(self._unlimited))]
        self._unlimited[owner] = Unlimited(asked)
        return None
