"""Several events in one row, and what is made of it again: the very events."""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from slackwater.runtime.events.journal import BEGINNING, Event, EventId, Journal
from slackwater.runtime.events.packs import DELTA, PACK_BYTES, first_id, packed, unpacked
from tests.support.properties import untimed

TEXTS = st.lists(st.text(st.sampled_from('ab"\\é\u2028🌊💧\n'), max_size=12), min_size=1, max_size=6)


def token(text: str) -> bytes:
    return orjson.dumps([{"content": text, "id": "said"}, {"langgraph_node": "model"}])


def said(*data: bytes, name: str = "messages") -> list[Event]:
    return [Event(EventId(7, seq), name, each) for seq, each in enumerate(data, 3)]


@untimed
@given(TEXTS, st.sampled_from(["", "x", "é"]))
def test_any_events(texts: list[str], end: str) -> None:
    events = said(*(orjson.dumps(text) + end.encode() for text in texts))
    (row,) = packed(events)
    row.data.decode()
    assert row.id == events[-1].id
    for after in (BEGINNING, *(event.id for event in events[:-1])):
        rest = [event for event in events if event.id > after]
        assert list(unpacked(row, after)) == rest
        assert first_id(row, after) == rest[0].id


def test_tokens_are_stored_as_tokens() -> None:
    events = said(token("Hel"), token("lo"), token(" world"))
    assert packed(events) == [
        Event(
            EventId(7, 5),
            "pack|messages",
            b'[{"content":"\n","id":"said"},{"langgraph_node":"model"}]\nHel\nlo\n world',
        )
    ]


def test_what_is_looked_for_by_its_name_has_a_row_of_its_own() -> None:
    names = ("metadata", "values", "values", "updates", "updates", "checkpoints", "checkpoints", "error")
    events = [Event(EventId(1, seq), name, b"{}") for seq, name in enumerate(names)]
    assert packed(events) == events


def test_only_events_of_one_name_that_follow_each_other() -> None:
    journal = Journal(2)
    for name in ("custom", "custom", "values", "custom", "messages|child:1", "messages|child:1"):
        journal.append(name, b"{}")
    rows = journal.take()
    assert [(row.id.seq, row.name) for row in rows] == [
        (2, "pack|custom"),
        (3, "values"),
        (4, "custom"),
        (6, "pack|messages|child:1"),
    ]
    # and what is confirmed is all that is in them
    journal.written(rows[:2])
    assert journal.unwritten == 3
    assert journal.unwritten_bytes == 6
    assert journal.take() == rows[2:]


def test_a_pack_is_bounded_and_what_has_lines_stays_alone() -> None:
    long = b'"' + b"x" * (PACK_BYTES // 2 - 10) + b'"'
    assert [row.id.seq for row in packed(said(long, long, long))] == [4, 5]
    lines = b'{"a":\n1}'
    events = said(b"1", lines, b"2", b"3", lines)
    rows = packed(events)
    assert [row.name for row in rows] == ["messages", "messages", "pack|messages", "messages"]
    assert [event for row in rows for event in unpacked(row, BEGINNING)] == events


def test_a_pack_of_deltas_is_of_one_message() -> None:
    deltas = [b'[1,1,9,9,"a"]', b'[1,2,10,9,"b"]', b'[12,12,9,9,"c"]', b'[12,13,10,9,"d"]', b'[1,3,11,9,"e"]']
    rows = packed(said(*deltas, name=DELTA))
    assert [(row.id.seq, row.name) for row in rows] == [(4, "pack|delta"), (6, "pack|delta"), (7, "delta")]
    # it begins like each of its deltas
    assert [row.data.startswith(b"[1,") for row in rows] == [True, False, True]
    assert rows[1].data.startswith(b"[12,")
    # deltas of states are looked for by their names
    alone = said(*deltas, name=f"{DELTA}|values")
    assert packed(alone) == alone
