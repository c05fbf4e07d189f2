"""Partial messages and states in the table: what is new in them, not all that was said before once more.

Readers get `messages/partial` with the whole message so far, and `values` with the whole state, as ever. The table has such
an event under its own id either as it is, or as a `delta`: what to put into the middle of another event of the same series,
one message or one graph's states. Bytes are compared, so what a reader gets is what was said, whatever it consists of. Each
delta names the whole that it goes back to; from there a reader who begins in the middle finds the event, by a read that is
bounded in rows and bytes.
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
"""Its delta is called `DELTA`. Readers of this version never see it. Those of an older one, beside it on the same database,
are sent it as it is, and have the wholes in between: it has a name that clients skip."""

DELTA_OF = f"{DELTA}|"
"""Before the name of any other event."""

LEAST_BYTES = 2_000
"""A smaller state is stored whole: its row has room for it."""

ROWS = 1_000
"""So many events after it a whole is followed by the next one. Before that, if its deltas come to as many bytes as it has."""

KEEP_BYTES = 200_000
"""Of the messages that go on beside the newest. One that is not kept is stored whole again, or read again."""

K = TypeVar("K")


@dataclass(slots=True)
class Said:
    """The newest event of a series."""

    data: bytes
    seq: int
    """Of the event that said so."""
    whole: int = 0
    """The `seq` of the row that has the last whole."""
    since: int = 0
    """Bytes of the deltas after that."""


class _Recent(Generic[K]):
    """The newest event of the newest series, and of others as far as there is room."""

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
    """Messages and states apart: neither has the other forgotten."""

    def __init__(self) -> None:
        self._messages: _Recent[K] = _Recent()
        self._states: _Recent[K] = _Recent()

    def of(self, name: str) -> _Recent[K]:
        """Those of events with that name."""
        return self._messages if name == PARTIAL else self._states


class Deltas:
    """Makes the rows of one attempt's partials and states."""

    def __init__(self) -> None:
        self._series: Series[str] = Series()

    def row(self, series: str, event: Event) -> Event:
        """What the table gets of an event of the series: a message's id, or the name under which a graph says its state."""
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
    """What a delta of an event with that name is called in the table."""
    return DELTA if name == PARTIAL else f"{DELTA_OF}{name}"


def name_of(row: str) -> str | None:
    """The name of the event that a row has a delta of; None if it has the event itself."""
    if row == DELTA:
        return PARTIAL
    return row.removeprefix(DELTA_OF) if row.startswith(DELTA_OF) else None


def is_state(name: str) -> bool:
    return name.partition("|")[0] == "values"


def _delta(before: Said, after: bytes) -> bytes | None:
    """`[last whole, event before, bytes kept at its beginning, at its end, what comes between]`; None if most is new."""
    head = common_head(before.data, after)
    tail = common_tail(before.data[head:], after[head:])
    if 2 * (head + tail) < len(after):
        return None
    middle = after[head : len(after) - tail].decode()
    return orjson.dumps([before.whole, before.seq, head, tail, middle])


def applied(before: bytes, head: int, tail: int, middle: str) -> bytes:
    return before[:head] + middle.encode() + before[len(before) - tail :]
