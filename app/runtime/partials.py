"""Partial messages and states in the table: what is new in them, not all that was said before once more.

Readers get `messages/partial` with the whole message so far, and `values` with the whole state, as ever. The table has such
an event under its own id either as it is, or as a `delta`: what to put into the middle of another event of the same series,
one message or one graph's states. Bytes are compared, so what a reader gets is what was said, whatever it consists of. Each
delta names the whole that it goes back to; from there a reader who begins in the middle finds the event, by a read that is
bounded in rows and bytes.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar
from uuid import UUID

import orjson

from app.postgres.trouble import DATABASE_TROUBLE

if TYPE_CHECKING:
    from app.postgres.pool import Database
    from app.runtime.journal import Event
    from app.runtime.threadlog import Entry

PARTIAL = "messages/partial"
DELTA = "delta"
"""Of a partial. Readers of this version never see it. Those of an older one, beside it on the same database, are sent it as
it is, and have the wholes in between: it has a name that clients skip."""

DELTA_OF = f"{DELTA}|"
"""Before the name of any other event."""

LEAST_BYTES = 2_000
"""A smaller state is stored whole: its row has room for it."""

ROWS = 1_000
"""So many events after it a whole is followed by the next one. Before that, if its deltas come to as many bytes as it has."""

KEEP_BYTES = 200_000
"""Of the messages that go on beside the newest. One that is not kept is stored whole again, or read again."""

AGAIN_SECONDS = 0.1
"""Between two tries to read, while the database is away."""

# One series' rows: those of others between them are not looked into.
_SINCE_WHOLE = """
select seq, event, data from slackwater.run_events
where run_id = %(run_id)s and fence = %(fence)s and seq between %(whole)s and %(base)s
  and (seq = %(whole)s or (event = %(delta)s and starts_with(data, %(mine)s))) order by seq"""

E = TypeVar("E", "Event", "Entry")
K = TypeVar("K")


@dataclass(slots=True)
class _Said:
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
        self._said: OrderedDict[K, _Said] = OrderedDict()
        self._bytes = 0

    def __getitem__(self, key: K) -> _Said | None:
        return self._said.get(key)

    def __setitem__(self, key: K, said: _Said) -> None:
        self._forget(self._said.pop(key, None))
        self._said[key] = said
        self._bytes += len(said.data)
        while self._bytes - len(said.data) > KEEP_BYTES:
            self._forget(self._said.popitem(last=False)[1])

    def _forget(self, said: _Said | None) -> None:
        if said is not None:
            self._bytes -= len(said.data)


class _Series(Generic[K]):
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
        self._series: _Series[str] = _Series()

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
                recent[series] = _Said(data, seq, before.whole, before.since + len(delta))
                return event._replace(name=_delta_of(name), data=delta)
        recent[series] = _Said(data, seq, seq)
        return event


class Partials:
    """Makes partials and states of one reader's rows again."""

    def __init__(self, database: Database, is_over: Callable[[], bool]) -> None:
        """`is_over`: the reader is let go, and waits for the database no longer."""
        self._database = database
        self._is_over = is_over
        self._series: _Series[tuple[int, int]] = _Series()
        """By fence, and `seq` of the last whole."""
        self._lost: tuple[int, int] | None = None

    async def restored(self, events: Sequence[E], run_id: UUID | None, most: int) -> AsyncGenerator[list[E]]:
        """The events with every partial whole, about `most` bytes at a time; `run_id`: whose they are, if not their own."""
        batch: list[E] = []
        size = 0
        for event in events:
            said = await self.whole(event, run_id)
            if said is not None:
                batch.append(said)
                size += len(said.data)
            if size >= most:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    async def whole(self, event: E, run_id: UUID | None) -> E | None:
        """The event as it was said. A `gap` stands for what cannot be made whole any more, or None once that is told."""
        name = _name_of(event.name)
        if name is not None:
            return await self._restored(event, name, run_id)
        if event.name == PARTIAL or (_is_state(event.name) and len(event.data) >= LEAST_BYTES):
            self._series.of(event.name)[event.id] = _Said(event.data, event.id.seq)
        return event

    async def _restored(self, event: E, name: str, run_id: UUID | None) -> E | None:
        fence, seq = event.id
        whole, base, head, tail, middle = orjson.loads(event.data)
        recent = self._series.of(name)
        known = recent[fence, whole]
        if known is None or known.seq != base:  # the reader begins here, or had others from memory
            run_id = run_id or getattr(event, "run_id", None)
            known = await self._read(run_id, event.name, fence, whole, base)
        if known is None:
            # Deleted between two looks, with all that comes before it.
            told, self._lost = self._lost == (fence, whole), (fence, whole)
            return None if told else event._replace(name="gap", data=b'{"first_available_id":null}')
        data = _applied(known.data, head, tail, middle)
        recent[fence, whole] = _Said(data, seq)
        return event._replace(name=name, data=data)

    async def _read(self, run_id: UUID | None, delta: str, fence: int, whole: int, base: int) -> _Said | None:
        """What the event `base` has said."""
        rows = None
        wanted = {
            "run_id": run_id,
            "fence": fence,
            "whole": whole,
            "base": base,
            "delta": delta,
            "mine": f"[{whole},",
        }
        while rows is None:
            try:
                rows = await self._database.fetch(_SINCE_WHOLE, wanted)
            except DATABASE_TROUBLE:
                if self._is_over():
                    raise
                await asyncio.sleep(AGAIN_SECONDS)
        if not rows or rows[0]["seq"] != whole or rows[-1]["seq"] != base:
            return None
        data = rows[0]["data"].encode()
        for row in rows[1:]:
            data = _applied(data, *orjson.loads(row["data"])[2:])
        return _Said(data, base)


def _delta_of(name: str) -> str:
    """What a delta of an event with that name is called in the table."""
    return DELTA if name == PARTIAL else f"{DELTA_OF}{name}"


def _name_of(row: str) -> str | None:
    """The name of the event that a row has a delta of; None if it has the event itself."""
    if row == DELTA:
        return PARTIAL
    return row.removeprefix(DELTA_OF) if row.startswith(DELTA_OF) else None


def _is_state(name: str) -> bool:
    return name.partition("|")[0] == "values"


def _delta(before: _Said, after: bytes) -> bytes | None:
    """`[last whole, event before, bytes kept at its beginning, at its end, what comes between]`; None if most is new."""
    head, tail = _common(before.data, after)
    if 2 * (head + tail) < len(after):
        return None
    middle = after[head : len(after) - tail].decode()
    return orjson.dumps([before.whole, before.seq, head, tail, middle])


def _applied(before: bytes, head: int, tail: int, middle: str) -> bytes:
    return before[:head] + middle.encode() + before[len(before) - tail :]


def _common(one: bytes, other: bytes) -> tuple[int, int]:
    """How many bytes of UTF-8 both begin with, and end with after that; cut between characters."""
    most = min(len(one), len(other))
    head, end = 0, most
    while head < end:
        middle = (head + end + 1) // 2
        if one[head:middle] == other[head:middle]:
            head = middle
        else:
            end = middle - 1
    while head and other[head : head + 1] and _is_inside(other[head]):
        head -= 1
    tail, end = 0, most - head
    while tail < end:
        middle = (tail + end + 1) // 2
        if one[len(one) - middle : len(one) - tail] == other[len(other) - middle : len(other) - tail]:
            tail = middle
        else:
            end = middle - 1
    while tail and _is_inside(other[len(other) - tail]):
        tail -= 1
    return head, tail


def _is_inside(byte: int) -> bool:
    """Whether it continues a character."""
    return byte & 0xC0 == 0x80
