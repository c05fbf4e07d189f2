"""Deltas: partial messages and states are stored as what has changed since the event before.

Readers get `messages/partial` with the whole message so far, and `values` with the whole state. The table stores such an
event under its own id either whole, or as a `delta`: what to put into the middle of an earlier event of the same series
(one message, or the states of one graph). Deltas work on bytes, so readers get exactly what was published. Each delta names
the whole event that it builds on, from which a reader who starts in the middle restores it, with a read that is bounded in
rows and bytes.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import orjson

from slackwater.runtime.events.packs import DELTA, common_head, common_tail

if TYPE_CHECKING:
    from slackwater.runtime.events.journal import Event

PARTIAL = "messages/partial"
"""Its delta is called `DELTA`, a name that clients skip: a process of an older version on the same database sends its readers
the deltas as they are, with whole events in between."""

DELTA_OF = f"{DELTA}|"
"""The prefix for the deltas of all other events."""

LEAST_BYTES = 2_000
"""A smaller state is stored whole."""

ROWS = 1_000
"""The longest distance, in events, between two whole events. It is shorter if the deltas in between come to more bytes than
a whole event."""

KEEP_BYTES = 200_000
"""How much is kept of series beside the newest. One that is not kept is stored whole again, or read again."""

K = TypeVar("K")


@dataclass(slots=True)
class Said:
    """The newest event of a series."""

    data: bytes
    seq: int
    whole: int = 0
    """The `seq` of the last event that is stored whole."""
    since: int = 0
    """Bytes of the deltas since then."""


class _Recent(Generic[K]):
    """The newest event of each series, as many as KEEP_BYTES has room for."""

    def __init__(self) -> None:
        self._said: OrderedDict[K, Said] = OrderedDict()
        self._bytes = 0

    def __getitem__(self, key: K) -> Said | None:
        return self._said.get(key)

    def __setitem__(self, key: K, said: Said) -> None:
        self._forget(self._said.pop(key, None))
        self._said[key] = said
        self._bytes += len(said.data)
        while self._bytes - len(said.data) > KEEP_BYTES:
            self._forget(self._said.popitem(last=False)[1])

    def _forget(self, said: Said | None) -> None:
        if said is not None:
            self._bytes -= len(said.data)


class Series(Generic[K]):
    """Messages and states are kept apart, so that neither evicts the other."""

    def __init__(self) -> None:
        self._messages: _Recent[K] = _Recent()
        self._states: _Recent[K] = _Recent()

    def of(self, name: str) -> _Recent[K]:
        """The series of events with this name."""
        return self._messages if name == PARTIAL else self._states


class Deltas:
    """Encodes one attempt's partial messages and states."""

    def __init__(self) -> None:
        self._series: Series[str] = Series()

    def row(self, series: str, event: Event) -> Event:
        """The row to store for an event. `series`: a message's id, or the event name of a graph's states."""
        name, data, seq = event.name, event.data, event.id.seq
        if name != PARTIAL and len(data) < LEAST_BYTES:
            return event
        recent = self._series.of(name)
        before = recent[series]
        if before is not None and seq - before.whole < ROWS:
            delta = _delta(before, data)
            if delta is not None and before.since + len(delta) <= len(data):
                recent[series] = Said(data, seq, before.whole, before.since + len(delta))
                return event._replace(name=delta_of(name), data=delta)
        recent[series] = Said(data, seq, seq)
        return event


def delta_of(name: str) -> str:
    """The name in the table of a delta of events with this name."""
    return DELTA if name == PARTIAL else f"{DELTA_OF}{name}"


def name_of(row: str) -> str | None:
    """The name of the event that the row is a delta of; None if the row is not a delta."""
    if row == DELTA:
        return PARTIAL
    return row.removeprefix(DELTA_OF) if row.startswith(DELTA_OF) else None


def is_state(name: str) -> bool:
    return name.partition("|")[0] == "values"


def _delta(before: Said, after: bytes) -> bytes | None:
    """`[seq of the last whole, seq of the event before, bytes kept of its head, of its tail, new middle]`; None if more than
    half is new."""
    head = common_head(before.data, after)
    tail = common_tail(before.data[head:], after[head:])
    if 2 * (head + tail) < len(after):
        return None
    middle = after[head : len(after) - tail].decode()
    return orjson.dumps([before.whole, before.seq, head, tail, middle])


def applied(before: bytes, head: int, tail: int, middle: str) -> bytes:
    return before[:head] + middle.encode() + before[len(before) - tail :]
