"""Requests per minute, and streams: one is taken from its owner's in the database before a request is answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slackwater.errors import TooManyRequests, TooManyStreams
from slackwater.identity.limits import queries
from slackwater.identity.limits.quota import Quota, headers_of
from slackwater.identity.limits.streams import OpenStreams, Place
from slackwater.kit.answers import Answers
from slackwater.kit.moment import Moment
from slackwater.postgres.pool import Database

FRESH_SECONDS = 4.0
"""For so long nobody asks again whether an owner without a limit has one; then one request does."""

STALE_SECONDS = 8.0
"""After this time each request asks: nobody relies any more on what was found."""


class RequestLimits:
    """Belongs to the event loop of the process."""

    def __init__(self, database: Database, per_minute: int, streams: int = 0) -> None:
        """`per_minute` and `streams`: of owners who have no limits of their own; 0: no limit."""
        self._database = database
        self._per_minute = per_minute
        self._streams = streams
        self.open = OpenStreams(database)
        self._unlimited: Answers[str, None] = Answers()
        """Owners who had no limit of requests when the database was asked."""
        self._any_streams: Answers[str, None] = Answers()
        """Owners who had none of streams."""

    async def take(self, owner: str, place: Place | None = None) -> Mapping[str, str]:
        """Count one request of the owner, and with a `place` a stream; the headers that tell what is left.

        One statement, which also finds the owner's limits; while it is known that there are none, no statement. Raises TooManyRequests,
        TooManyStreams.
        """
        if place is not None and not _known(self._any_streams, owner):
            with self._any_streams.asking(owner) as asked:
                row = await self.open.open(place, self._per_minute, self._streams)
            told = self._told(owner, row, asked)
            if not row["streams"]:
                self._any_streams.remember(owner, None, asked)
                return told
            self._any_streams.forget(owner)
            if not row["opened"]:
                raise TooManyStreams(told)
            return told
        if _known(self._unlimited, owner):
            return {}
        with self._unlimited.asking(owner) as asked:
            row = await queries.take(self._database, owner, self._per_minute)
        return self._told(owner, row, asked)

    def _told(self, owner: str, row: Mapping[str, Any], asked: Moment) -> Mapping[str, str]:
        if not row["per_minute"]:
            self._unlimited.remember(owner, None, asked)
            return {}
        self._unlimited.forget(owner)
        quota = Quota(row["per_minute"], row["full_in"], row["taken"])
        told = headers_of(quota)
        if not quota.taken:
            raise TooManyRequests(told)
        return told


def _known(unlimited: Answers[str, None], owner: str) -> bool:
    return unlimited.recall(owner, fresh=FRESH_SECONDS, stale=STALE_SECONDS) is not None
