"""What a partial message or a state is stored as, and what is made of that again: the very bytes."""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from slackwater.runtime.events import deltas
from slackwater.runtime.events.deltas import DELTA_OF, LEAST_BYTES, PARTIAL, Said, _delta, applied
from slackwater.runtime.events.journal import Event, EventId, Journal
from slackwater.runtime.events.packs import DELTA
from tests.support.properties import untimed

TEXTS = st.text(st.sampled_from('ab"\\é\u2028🌊💧'), max_size=12)


@untimed
@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_any_two_texts(head: str, one: str, other: str, tail: str) -> None:
    before, after = f"{head}{one}{tail}".encode(), f"{head}{other}{tail}".encode()
    delta = _delta(Said(before, 7, 3), after)
    if delta is None:
        assert len(other.encode()) * 2 > len(after)
    else:
        whole, base, *change = orjson.loads(delta)
        assert (whole, base) == (3, 7)
        assert applied(before, *change) == after


def test_a_token_is_stored_as_a_token() -> None:
    before, after = b'[{"content":"Hello wor","id":"x"}]', b'[{"content":"Hello world","id":"x"}]'
    assert _delta(Said(before, 7, 3), after) == b'[3,7,22,12,"ld"]'


def row_of(journal: Journal) -> Event:
    """The row of the newest event, which is written at once."""
    rows = journal.take()
    journal.written(rows)
    return rows[-1]


def said(journal: Journal, message: str, text: str) -> Event:
    """The row of the partial with which the message has come to `text`."""
    journal.append(PARTIAL, orjson.dumps([{"content": text, "id": message}]), message)
    return row_of(journal)


def test_messages_go_on_beside_each_other() -> None:
    journal = Journal(4)
    assert said(journal, "a", "x" * 99).name == PARTIAL
    assert said(journal, "b", "y" * 99).name == PARTIAL
    journal.append("values", b"{}")
    assert said(journal, "a", "x" * 99 + "1").data == b'[1,1,112,12,"1"]'
    assert said(journal, "b", "y" * 99 + "2").data == b'[2,2,112,12,"2"]'
    assert said(journal, "a", "x" * 99 + "13").data == b'[1,4,113,12,"3"]'
    # whoever reads in this process gets wholes
    assert {event.name for event in journal.after(EventId(0, 0)) or ()} == {PARTIAL, "values"}


def test_a_whole_comes_again_after_as_many_bytes_of_deltas_and_after_so_many_events() -> None:
    journal = Journal(1)
    rows = [said(journal, "a", "x" * n) for n in range(2_000)]
    wholes = [row.id.seq for row in rows if row.name == PARTIAL]
    assert wholes[0] == 1
    for whole, following in zip(wholes, [*wholes[1:], 2_001], strict=True):
        between = rows[whole : following - 1]
        assert sum(len(row.data) for row in between) <= len(b'[{"content":"","id":"a"}]') + following
        assert following - whole <= deltas.ROWS
    assert sum(len(row.data) for row in rows) < 100_000  # and not two million
    assert sum(row.name == DELTA for row in rows) > 1_900


def test_what_has_nothing_in_common_is_stored_whole() -> None:
    journal = Journal(1)
    said(journal, "a", "x" * 50)
    journal.append(PARTIAL, b"null", "a")
    assert journal.take()[-1] == Event(EventId(1, 2), PARTIAL, b"null")


def test_no_more_is_kept_than_there_is_room_for() -> None:
    journal = Journal(1)
    for n in range(500):
        said(journal, f"m{n}", "x" * 10_000)
    kept = journal._deltas._series.of(PARTIAL)._said.values()
    assert sum(len(message.data) for message in kept) <= deltas.KEEP_BYTES + 10_100
    assert said(journal, "m0", "x" * 10_001).name == PARTIAL  # it was forgotten
    assert said(journal, "m499", "x" * 10_001).name == DELTA


def stated(journal: Journal, state: dict[str, object], name: str = "values") -> Event:
    """The row of the state."""
    journal.append(name, orjson.dumps(state), name)
    return row_of(journal)


def test_a_state_is_stored_as_what_is_new_in_it() -> None:
    journal, lines = Journal(3), ["x" * 99] * 50
    assert stated(journal, {"lines": lines, "n": 1}).name == "values"
    journal.append("updates", b"{}")
    row = stated(journal, {"lines": [*lines, "new"], "n": 1})
    assert row == Event(EventId(3, 3), f"{DELTA_OF}values", b'[1,1,5109,8,",\\"new\\""]')
    # of the same graph, and not of one beside it
    assert stated(journal, {"lines": lines}, "values|child:1").name == "values|child:1"
    assert stated(journal, {"lines": [*lines, "more"]}, "values|child:1").data.startswith(b"[4,4,")
    assert stated(journal, {"lines": [*lines, "new", "er"], "n": 1}).data.startswith(b"[1,3,")
    # whoever reads in this process gets wholes
    assert {event.name for event in journal.after(EventId(0, 0)) or ()} == {
        "values",
        "updates",
        "values|child:1",
    }


def test_a_small_state_is_stored_whole() -> None:
    journal = Journal(1)
    for n in range(3):
        assert stated(journal, {"line": "x" * (LEAST_BYTES - 12)}) == Event(
            EventId(1, n + 1), "values", orjson.dumps({"line": "x" * (LEAST_BYTES - 12)})
        )


def test_messages_and_states_do_not_make_each_other_forgotten() -> None:
    journal = Journal(1)
    stated(journal, {"line": "x" * 2 * deltas.KEEP_BYTES})
    said(journal, "a", "y" * 2 * deltas.KEEP_BYTES)
    assert stated(journal, {"line": "x" * 2 * deltas.KEEP_BYTES}).name == f"{DELTA_OF}values"
    assert said(journal, "a", "y" * 2 * deltas.KEEP_BYTES + "y").name == DELTA
