"""Requests per minute: one is taken from its owner's bucket in the database before a request is answered."""

from __future__ import annotations

from collections.abc import Mapping

from slackwater.errors import TooManyRequests
from slackwater.identity.limits import queries
from slackwater.identity.limits.quota import Quota, headers_of
from slackwater.kit.answers import Answers
from slackwater.postgres.pool import Database

FRESH_SECONDS = 4.0
"""For so long nobody asks again whether an owner without a limit has one; then one request does."""

STALE_SECONDS = 8.0
"""After this time each request asks: nobody relies any more on what was found."""


class RequestLimits:
    """Belongs to the event loop of the process."""

    def __init__(self, database: Database, per_minute: int) -> None:
        """`per_minute`: of owners who have no limit of their own; 0: no limit."""
        self._database = database
        self._default = per_minute
        self._unlimited: Answers[str, None] = Answers()
        """Owners who had no limit when the database was asked."""

    async def take(self, owner: str) -> Mapping[str, str]:
        """Count one request of the owner; the headers that tell what is left. Raises TooManyRequests.

        One statement, which also finds the owner's limit; while it is known that there is none, no statement.
        """
        if self._unlimited.recall(owner, fresh=FRESH_SECONDS, stale=STALE_SECONDS) is not None:
            return {}
        with self._unlimited.asking(owner) as asked:
            row = await queries.take(self._database, owner, self._default)
        if not row["per_minute"]:
            self._unlimited.remember(owner, None, asked)
            return {}
        self._unlimited.forget(owner)
        quota = Quota(row["per_minute"], row["full_in"], row["taken"])
        told = headers_of(quota)
        if not quota.taken:
            raise TooManyRequests(told)
        return told
