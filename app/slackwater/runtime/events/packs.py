"""Events of one name that are written together: one row, which has only once what they have in common.

A row of events costs the database more in itself, and in indexes, than what one token says. A pack is named `pack|` and the
events' name, has the id of its last event, and these lines, none of which JSON has any of: how all its events begin, how all
end, and for each event what it has between these.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from slackwater.runtime.events.journal import Event, EventId
    from slackwater.runtime.events.thread_reader import ThreadEvent

PACK = "pack|"
"""Readers of this version never see it, and those of an older one skip it."""

PACKED = frozenset({"messages", "custom", "events", "tasks", "debug", "tools"})
"""What comes often, and what nobody looks for in the table by its name."""

DELTA = "delta"
"""What the table has of a partial message. A pack of them is of one message, which is looked for by how it begins."""

PACK_BYTES = 100_000
"""So much a pack's events have together: what a reader holds at a time."""

E = TypeVar("E", "Event", "ThreadEvent")


def packed(events: Iterable[Event]) -> list[Event]:
    """The rows of events that follow each other."""
    rows: list[Event] = []
    for (name, _), same in groupby(events, key=_kind):
        if name == DELTA or name.partition("|")[0] in PACKED:
            rows += map(_row, _parts(same))
        else:
            rows += same
    return rows


def unpacked(row: E, after: EventId) -> Iterator[E]:
    """The events of a row that come after that id, one by one."""
    if not row.name.startswith(PACK):
        if row.id > after:
            yield row
        return
    name = row.name.removeprefix(PACK)
    head, tail, *middles = row.data.split(b"\n")
    for seq, middle in enumerate(middles, row.id.seq - len(middles) + 1):
        event_id = row.id._replace(seq=seq)
        if event_id > after:
            yield row._replace(id=event_id, name=name, data=head + middle + tail)


def first_id(row: Event | ThreadEvent, after: EventId) -> EventId:
    """The id of the first event of a row that comes after that id."""
    if not row.name.startswith(PACK):
        return row.id
    first = row.id._replace(seq=row.id.seq - row.data.count(b"\n") + 2)
    return max(first, after._replace(seq=after.seq + 1)) if after.fence == first.fence else first


def _kind(event: Event) -> tuple[str, bytes]:
    return event.name, event.data.partition(b",")[0] if event.name == DELTA else b""


def _parts(events: Iterable[Event]) -> Iterator[list[Event]]:
    """The events in packs. One that has lines of its own, as only custom JSON can have, stays alone."""
    part: list[Event] = []
    size = 0
    for event in events:
        if part and (size + len(event.data) > PACK_BYTES or b"\n" in event.data or b"\n" in part[-1].data):
            yield part
            part, size = [], 0
        part.append(event)
        size += len(event.data)
    if part:
        yield part


def _row(events: Sequence[Event]) -> Event:
    last = events[-1]
    if len(events) == 1:
        return last
    said = [event.data for event in events]
    head, tail = _shared(said)
    begin, end = len(head), len(tail)
    lines = [head, tail, *(data[begin : len(data) - end] for data in said)]
    return last._replace(name=f"{PACK}{last.name}", data=b"\n".join(lines))


def _shared(said: Sequence[bytes]) -> tuple[bytes, bytes]:
    """How all begin, and how all end after that; cut between characters."""
    first, *others = said
    head = first
    for data in others:
        if not data.startswith(head):
            head = head[: common_head(head, data)]
    begin = len(head)
    tail = first[begin:]
    for data in others:
        if not data.endswith(tail, begin):
            tail = tail[len(tail) - common_tail(tail, data[begin:]) :]
    return head, tail


def common_head(one: bytes, other: bytes) -> int:
    """How many bytes of UTF-8 both begin with; cut between characters."""
    head, end = 0, min(len(one), len(other))
    while head < end:
        middle = (head + end + 1) // 2
        if one[head:middle] == other[head:middle]:
            head = middle
        else:
            end = middle - 1
    while head and (
        (head < len(one) and _is_inside(one[head])) or (head < len(other) and _is_inside(other[head]))
    ):
        head -= 1
    return head


def common_tail(one: bytes, other: bytes) -> int:
    """How many bytes of UTF-8 both end with; cut between characters."""
    tail, end = 0, min(len(one), len(other))
    while tail < end:
        middle = (tail + end + 1) // 2
        if one[len(one) - middle : len(one) - tail] == other[len(other) - middle : len(other) - tail]:
            tail = middle
        else:
            end = middle - 1
    while tail and _is_inside(other[len(other) - tail]):
        tail -= 1
    return tail


def _is_inside(byte: int) -> bool:
    """Whether it continues a character."""
    return byte & 0xC0 == 0x80
