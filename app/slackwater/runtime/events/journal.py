"""The events of one attempt: in memory for readers in this process, in the table for all others.

Ids are `<fence>-<seq>`. The fence rises with every claim on the thread, so ids sort over the attempts and runs
of a thread and none is ever used twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from itertools import islice
from typing import Any, NamedTuple

from slackwater.runtime.events.deltas import Deltas
from slackwater.runtime.events.packs import packed

BATCH_BYTES = 500_000
"""The size of a batch for a reader, and so the most that waits for a slow one, unless a single event is larger."""

KEEP_EVENTS = 4096
KEEP_BYTES = 8_000_000
"""How much is kept in memory for slow readers in this process; older events are read from the table."""


class EventId(NamedTuple):
    """Where an event stands in its thread's log."""

    fence: int
    seq: int

    def __str__(self) -> str:
        return f"{self.fence}-{self.seq}"

    @classmethod
    def parse(cls, value: str) -> EventId | None:
        """Parse an id that a client sent; `-1`, `0`, `-` and anything malformed mean the beginning (None)."""
        fence, _, seq = value.strip().partition("-")
        if not fence.isdecimal() or len(fence) > 18 or not (seq == "" or (seq.isdecimal() and len(seq) < 10)):
            return None
        return cls(int(fence), int(seq or 0))


BEGINNING = EventId(0, 0)


class Event(NamedTuple):
    """A logged event, whose `data` is JSON; or a row of the table, which may pack several (`runtime.events.packs`)."""

    id: EventId
    name: str
    data: bytes


def event_of(row: Mapping[str, Any]) -> Event:
    """From a row with `fence`, `seq`, `event` and `data`."""
    return Event(EventId(row["fence"], row["seq"]), row["event"], row["data"].encode())


class Ending(Enum):
    """How the journal of an attempt was closed."""

    SETTLED = "settled"
    """The run has ended: its readers' streams end."""
    GONE_ON = "gone on"
    """The run continues elsewhere: readers must read from the table."""


class Journal:
    """The log of one attempt. Only the attempt's task writes it."""

    def __init__(self, fence: int) -> None:
        self.fence = fence
        self.ending: Ending | None = None
        self._events: deque[Event] = deque()
        self._bytes = 0
        self._seq = 0
        self._unwritten: deque[Event] = deque()
        """As rows of the table, before they are packed."""
        self._unwritten_bytes = 0
        self._deltas = Deltas()
        self._changed: asyncio.Event | None = None
        """What readers wait for; None if none do."""

    def append(self, name: str, data: bytes, series: str | None = None) -> None:
        """Publish an event: readers here see it at once, the table gets it with the next write.

        `series`: events that each repeat the one before and add to it. The table stores only what is new.
        """
        self._seq += 1
        event = Event(EventId(self.fence, self._seq), name, data)
        self._events.append(event)
        row = event if series is None else self._deltas.row(series, event)
        self._unwritten.append(row)
        self._unwritten_bytes += len(row.data)
        self._bytes += len(data)
        self._wake()

    @property
    def last(self) -> EventId:
        """The id of the newest event."""
        return EventId(self.fence, self._seq)

    @property
    def oldest(self) -> EventId:
        """The id of the oldest event in memory, or of the next event if there is none."""
        return self._events[0].id if self._events else EventId(self.fence, self._seq + 1)

    @property
    def unwritten(self) -> int:
        """How many events are not in the table yet."""
        return len(self._unwritten)

    @property
    def unwritten_bytes(self) -> int:
        """The size of their data."""
        return self._unwritten_bytes

    def take(self) -> list[Event]:
        """The rows to write. Their events count as unwritten until `written` confirms them."""
        return packed(self._unwritten)

    def written(self, rows: Sequence[Event]) -> None:
        """Confirm that these rows and all before them are in the table; old events may leave memory."""
        while rows and self._unwritten and self._unwritten[0].id <= rows[-1].id:
            self._unwritten_bytes -= len(self._unwritten.popleft().data)
        written = self._seq - len(self._unwritten)
        while self._events and self._events[0].id.seq <= written and self._overfull():
            self._bytes -= len(self._events.popleft().data)

    def _overfull(self) -> bool:
        return len(self._events) > KEEP_EVENTS or self._bytes > KEEP_BYTES

    def after(self, cursor: EventId) -> list[Event] | None:
        """The next batch of events after `cursor`; None if memory does not reach back that far."""
        if cursor.fence > self.fence:
            return []
        seq = cursor.seq if cursor.fence == self.fence else 0
        skipped = seq + 1 - self.oldest.seq
        return None if skipped < 0 else _batch(islice(self._events, skipped, None))

    def close(self, ending: Ending) -> None:
        """End the log. Only the first call counts."""
        if self.ending is None:
            self.ending = ending
            self._wake()

    async def change(self) -> None:
        """Wait for the next event or the ending. The caller bounds the wait."""
        if self._changed is None:
            self._changed = asyncio.Event()
        await self._changed.wait()

    def _wake(self) -> None:
        # Wakes all who wait now; those who come later wait for the next change.
        if self._changed is not None:
            self._changed.set()
            self._changed = None


def _batch(events: Iterable[Event]) -> list[Event]:
    taken, size = [], 0
    for event in events:
        if size >= BATCH_BYTES:
            break
        taken.append(event)
        size += len(event.data)
    return taken
