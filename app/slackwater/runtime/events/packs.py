"""Packs: consecutive events of one name in one row, which holds what they have in common only once.

A row and its index entries cost the database more than the token they hold. A pack is named `pack|` and the events' name,
and has the id of its last event. Its data are lines, which JSON events do not contain: the common head, the common tail,
and for each event what lies between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from slackwater.runtime.events.journal import Event, EventId
    from slackwater.runtime.events.thread_reader import ThreadEvent

PACK = "pack|"
"""Readers never see it; those of an older version skip it."""

PACKED = frozenset({"messages", "custom", "events", "tasks", "debug", "tools"})
"""Events that are frequent, and that no query looks for by name."""

DELTA = "delta"
"""The delta of a partial message. A pack has deltas of one message only, which queries find by how they begin."""

PACK_BYTES = 100_000
"""The total size of a pack's events, which a reader holds in memory at once."""

E = TypeVar("E", "Event", "ThreadEvent")


def packed(events: Iterable[Event]) -> list[Event]:
    """The rows for consecutive events."""
    rows: list[Event] = []
    for (name, _), same in groupby(events, key=_kind):
        if name == DELTA or name.partition("|")[0] in PACKED:
            rows += map(_row, _parts(same))
        else:
            rows += same
    return rows


def unpacked(row: E, after: EventId) -> Iterator[E]:
    """The events of a row after this id."""
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
    """The id of the first event of a row after this id."""
    if not row.name.startswith(PACK):
        return row.id
    first = row.id._replace(seq=row.id.seq - row.data.count(b"\n") + 2)
    return max(first, after._replace(seq=after.seq + 1)) if after.fence == first.fence else first


def _kind(event: Event) -> tuple[str, bytes]:
    return event.name, event.data.partition(b",")[0] if event.name == DELTA else b""


def _parts(events: Iterable[Event]) -> Iterator[list[Event]]:
    """Split the events into packs. An event with line breaks, as only custom JSON can have, stays alone."""
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
    """The common head, and the common tail of the rest; cut between characters."""
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
    """The length of the common head in bytes of UTF-8; cut between characters."""
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
    """The length of the common tail in bytes of UTF-8; cut between characters."""
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
