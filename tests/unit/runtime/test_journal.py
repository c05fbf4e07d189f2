"""The events of one attempt in memory."""

from __future__ import annotations

import asyncio

import pytest

from slackwater.runtime.events import journal as journals
from slackwater.runtime.events.journal import BEGINNING, Ending, EventId, Journal


def names(events: list[journals.Event] | None) -> list[str] | None:
    return None if events is None else [event.name for event in events]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3-14", EventId(3, 14)),
        (" 3-14 ", EventId(3, 14)),
        ("3", EventId(3, 0)),
        ("3-", EventId(3, 0)),
        ("0", EventId(0, 0)),
        ("-1", None),
        ("-", None),
        ("", None),
        ("3-x", None),
        ("x-3", None),
        ("1" * 19, None),
        ("3-" + "1" * 10, None),
        ("3-1-2", None),
        ("1f0e2b4c-7c39-6f2e-8001-0242ac120002", None),
    ],
)
def test_an_id_that_a_client_sent_back(text: str, expected: EventId | None) -> None:
    assert EventId.parse(text) == expected


def test_ids_sort_by_claim_and_then_by_their_place_and_read_as_they_are_written() -> None:
    ids = [EventId(2, 1), EventId(1, 10), EventId(1, 9), BEGINNING]
    assert sorted(ids) == [BEGINNING, EventId(1, 9), EventId(1, 10), EventId(2, 1)]
    assert EventId.parse(str(EventId(12, 7))) == EventId(12, 7)


def test_readers_get_what_comes_after_their_cursor() -> None:
    journal = Journal(5)
    for name in "abc":
        journal.append(name, b"{}")
    assert names(journal.after(BEGINNING)) == ["a", "b", "c"]
    assert names(journal.after(EventId(4, 99))) == ["a", "b", "c"]
    assert names(journal.after(EventId(5, 2))) == ["c"]
    assert names(journal.after(EventId(5, 3))) == []
    assert names(journal.after(EventId(5, 99))) == []
    assert names(journal.after(EventId(6, 0))) == []
    assert journal.last == EventId(5, 3)


def test_an_empty_journal_has_nothing_after_anything_and_its_next_id_is_its_oldest() -> None:
    journal = Journal(5)
    assert journal.after(BEGINNING) == []
    assert journal.last == EventId(5, 0)
    assert journal.oldest == EventId(5, 1)


def test_memory_forgets_old_events_only_once_the_table_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "KEEP_EVENTS", 2)
    journal = Journal(1)
    for name in "abcd":
        journal.append(name, b"{}")
    assert names(journal.after(BEGINNING)) == ["a", "b", "c", "d"]
    # WHEN the first three are written
    assert names(journal.take()) == ["a", "b", "c", "d"]
    journal.written(journal.take()[:3])
    # THEN the first two may go, and a reader who needs them is sent to the table
    assert journal.unwritten == 1
    assert journal.oldest == EventId(1, 3)
    assert journal.after(EventId(1, 1)) is None
    assert names(journal.after(EventId(1, 2))) == ["c", "d"]
    assert names(journal.take()) == ["d"]


def test_memory_is_bounded_by_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "KEEP_BYTES", 10)
    journal = Journal(1)
    for name in "abc":
        journal.append(name, b"12345678")
    journal.written(journal.take()[:3])
    assert names(journal.after(EventId(1, 2))) == ["c"]
    assert journal.after(EventId(1, 0)) is None


async def test_whoever_waits_wakes_at_the_next_event_and_at_the_end_and_the_first_ending_stays() -> None:
    journal = Journal(1)
    for act in (lambda: journal.append("a", b"{}"), lambda: journal.close(Ending.GONE_ON)):
        waiter = asyncio.create_task(journal.change())
        await asyncio.sleep(0)
        assert not waiter.done()
        act()
        await asyncio.wait_for(waiter, 10)
    journal.close(Ending.SETTLED)
    assert journal.ending is Ending.GONE_ON
