"""The streams of owners who may have only so many open: counted in the database, by whichever process holds them.

A process says every few seconds which ones it still holds. Those of a process that was killed lapse, sooner than a client that
comes back to another one gives up.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from slackwater.identity.limits import queries
from slackwater.kit.ids import uuid7
from slackwater.kit.repeated import Repeated
from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE
from slackwater.postgres.pool import Database

log = logging.getLogger(__name__)

LAPSE_SECONDS = 12.0
"""After this time a stream does not count any more, unless its process has said that it is open."""

RENEW_SECONDS = 4.0

_LAST_SEGMENTS = frozenset({"stream", "join", "wait"})
_FIRST_SEGMENTS = frozenset({"mcp", "a2a"})


def stays_open(kind: str, method: str, path: str) -> bool:
    """Whether a request is a stream: its answer may take as long as a run. `kind` is that of the ASGI scope, `path` that of the route.

    Calls by MCP and A2A wait for runs, too; they are told apart from others only by their bodies, so all of them count.
    """
    if kind == "websocket":
        return True
    segments = path.strip("/").split("/")
    return (
        segments[-1] in _LAST_SEGMENTS
        or segments[-2:] == ["stream", "events"]
        or (method == "POST" and segments[0] in _FIRST_SEGMENTS)
    )


@dataclass(slots=True)
class Place:
    """Of one stream, among those that its owner may have open."""

    owner: str
    stream: UUID = field(default_factory=uuid7)
    counted: bool = False
    """Whether the database may count it."""


class OpenStreams:
    """Those of this process. Belongs to its event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._open: dict[UUID, str] = {}
        """Their owners, by stream."""
        self._ended: dict[UUID, str] = {}
        """Those of which the database has not been told."""
        self._holds = Repeated("limits:streams", self._hold, self._due)

    @contextmanager
    def place(self, owner: str) -> Iterator[Place]:
        """For a stream that may be counted: as long as this lasts, if it is."""
        place = Place(owner)
        try:
            yield place
        finally:
            if place.counted:
                self._open.pop(place.stream, None)
                self._ended[place.stream] = owner
                self._holds.look()

    async def open(self, place: Place, requests: int, streams: int) -> Mapping[str, Any]:
        """Open it and take its request, unless there are too many of either: see `queries.take_and_open`."""
        # From here on, however this ends: whether the database has counted it may never be known.
        place.counted = True
        row = await queries.take_and_open(
            self._database,
            place.owner,
            requests,
            streams,
            stream=place.stream,
            ended=[stream for stream, owner in self._ended.items() if owner == place.owner],
            seconds=LAPSE_SECONDS,
        )
        place.counted = row["opened"]
        if place.counted:
            self._open[place.stream] = place.owner
            self._holds.look()
        return row

    def _due(self) -> float | None:
        """Whoever has closed one may open another at another process at once."""
        if self._ended:
            return 0.0
        return RENEW_SECONDS if self._open else None

    async def _hold(self) -> None:
        ended = dict(self._ended)
        try:
            await queries.hold(self._database, dict(self._open), ended, LAPSE_SECONDS)
        except DATABASE_UNAVAILABLE as error:
            log.warning("open streams were not counted: %s", error, extra={"event": "streams.uncounted"})
        finally:
            # Untold, they lapse.
            for stream in ended:
                self._ended.pop(stream, None)

    async def stop(self, seconds: float) -> None:
        """Say within so many seconds that all have ended. What is not said lapses."""
        self._ended |= self._open
        self._open.clear()
        await self._holds.finish(seconds)
