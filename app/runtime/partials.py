"""Partial messages in the table: what a token adds, not the message so far once more per token.

Readers get `messages/partial` with the whole message so far, as ever. The table has such an event under its own id either
as it is, or as a `delta`: what to put into the middle of another partial of the same message. Bytes are compared, so what
a reader gets is what was said, whatever messages consist of. Each delta names the whole that it goes back to; from there
a reader who begins in the middle finds the message, by a read that is bounded in rows and bytes.
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
"""Readers of this version never see it. Those of an older one, beside it on the same database, are sent it as it is, and
have the wholes in between: it has a name that clients skip."""

ROWS = 1_000
"""So many events after it a whole is followed by the next one. Before that, if its deltas come to as many bytes as it has."""

KEEP_BYTES = 200_000
"""Of the messages that go on beside the newest. One that is not kept is stored whole again, or read again."""

AGAIN_SECONDS = 0.1
"""Between two tries to read, while the database is away."""

# One message's rows: those of others between them are not looked into.
_SINCE_WHOLE = f"""
select seq, event, data from slackwater.run_events
where run_id = %(run_id)s and fence = %(fence)s and seq between %(whole)s and %(base)s
  and (seq = %(whole)s or (event = '{DELTA}' and starts_with(data, %(mine)s))) order by seq"""

E = TypeVar("E", "Event", "Entry")
K = TypeVar("K")


@dataclass(slots=True)
class _Message:
    """A message as far as it was said."""

    data: bytes
    seq: int
    """Of the event that said so."""
    whole: int = 0
    """The `seq` of the row that has the last whole."""
    since: int = 0
    """Bytes of the deltas after that."""


class _Recent(Generic[K]):
    """The newest message, and others as far as there is room."""

    def __init__(self) -> None:
        self._messages: OrderedDict[K, _Message] = OrderedDict()
        self._bytes = 0

    def __getitem__(self, key: K) -> _Message | None:
        return self._messages.get(key)

    def __setitem__(self, key: K, message: _Message) -> None:
        self._forget(self._messages.pop(key, None))
        self._messages[key] = message
        self._bytes += len(message.data)
        while self._bytes - len(message.data) > KEEP_BYTES:
            self._forget(self._messages.popitem(last=False)[1])

    def _forget(self, message: _Message | None) -> None:
        if message is not None:
            self._bytes -= len(message.data)


class Deltas:
    """Makes the rows of one attempt's partials."""

    def __init__(self) -> None:
        self._messages: _Recent[str] = _Recent()

    def row(self, message_id: str, event: Event) -> Event:
        """What the table gets of a partial of the message."""
        seq, before = event.id.seq, self._messages[message_id]
        if before is not None and seq - before.whole < ROWS:
            data = _delta(before, event.data)
            since = before.since + len(data)
            if since <= len(event.data):
                self._messages[message_id] = _Message(event.data, seq, before.whole, since)
                return event._replace(name=DELTA, data=data)
        self._messages[message_id] = _Message(event.data, seq, seq)
        return event


class Partials:
    """Makes partials of one reader's rows again."""

    def __init__(self, database: Database, is_over: Callable[[], bool]) -> None:
        """`is_over`: the reader is let go, and waits for the database no longer."""
        self._database = database
        self._is_over = is_over
        self._messages: _Recent[tuple[int, int]] = _Recent()
        """By fence, and `seq` of the last whole."""
        self._lost: tuple[int, int] | None = None

    async def restored(self, events: Sequence[E], run_id: UUID | None, most: int) -> AsyncGenerator[list[E]]:
        """The events with every partial whole, about `most` bytes at a time; `run_id`: whose they are, if not their own."""
        batch: list[E] = []
        size = 0
        for event in events:
            said: E | None = event
            if event.name == PARTIAL:
                self._messages[event.id] = _Message(event.data, event.id.seq)
            elif event.name == DELTA:
                said = await self._whole(event, run_id)
            if said is not None:
                batch.append(said)
                size += len(said.data)
            if size >= most:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    async def _whole(self, event: E, run_id: UUID | None) -> E | None:
        fence, seq = event.id
        whole, base, head, tail, middle = orjson.loads(event.data)
        known = self._messages[fence, whole]
        if known is None or known.seq != base:  # the reader begins here, or had others from memory
            known = await self._read(run_id or getattr(event, "run_id", None), fence, whole, base)
        if known is None:
            # Deleted between two looks, with all that comes before it.
            told, self._lost = self._lost == (fence, whole), (fence, whole)
            return None if told else event._replace(name="gap", data=b'{"first_available_id":null}')
        data = _applied(known.data, head, tail, middle)
        self._messages[fence, whole] = _Message(data, seq)
        return event._replace(name=PARTIAL, data=data)

    async def _read(self, run_id: UUID | None, fence: int, whole: int, base: int) -> _Message | None:
        """The message as far as the event `base` has said it."""
        rows = None
        wanted = {"run_id": run_id, "fence": fence, "whole": whole, "base": base, "mine": f"[{whole},"}
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
        return _Message(data, base)


def _delta(before: _Message, after: bytes) -> bytes:
    """`[last whole, event before, bytes kept at its beginning, at its end, what comes between]`"""
    head, tail = _common(before.data, after)
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
