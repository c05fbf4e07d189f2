"""Messages and token counts between the callbacks that tell them and the statements that store them."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from slackwater.runtime.fenced import records as module
from slackwater.runtime.fenced.group import Group, WritesPut
from slackwater.runtime.fenced.records import (
    MESSAGES,
    USAGE,
    Records,
    Rows,
    SaidMessage,
    Tokens,
    Usage,
    size_of,
)


def records() -> Records:
    return Records(uuid4(), uuid4(), "owner", 3)


def message(text: str) -> SaidMessage:
    return SaidMessage("llm.ai.response", "message", b'"%s"' % text.encode(), b"{}")


def usage(place: int) -> Usage:
    return Usage(uuid4(), "model", "lead_agent", Tokens(2, 1, 3), False, "task", place)


def contents(rows: Rows) -> list[Any]:
    return [row[5] for row in rows.get(MESSAGES, ())]


def test_an_end_has_the_same_rows_whenever_it_is_asked_for_them() -> None:
    kept = records()
    kept.say(("a",), message("a"))
    kept.book(usage(0))
    first = {insert: [*rows] for insert, rows in kept.last(ends=True).items()}
    assert contents(first) == [b'"a"']
    assert [row[1] for row in first[MESSAGES]] == [3_000_001]
    assert len(first[USAGE]) == 1
    assert {insert: [*rows] for insert, rows in kept.last(ends=True).items()} == first
    # WHEN it has turned out that the run does not end, and its tasks are to run again
    assert [*kept.last(ends=False)] == [USAGE]


def test_a_hand_over_has_the_tokens_alone() -> None:
    kept = records()
    kept.say(("a",), message("a"))
    kept.book(usage(0))
    for _ in range(2):
        rows = kept.last(ends=False)
        assert [*rows] == [USAGE]
        assert len(rows[USAGE]) == 1


def test_what_a_refused_statement_had_counts_as_spent_and_not_as_said() -> None:
    kept = records()
    kept.say(("a",), message("a"))
    kept.book(usage(0))
    taken = kept.take(kept.of_task("a"))
    kept.book(usage(1))
    kept.untake(taken)
    after = kept.take(kept.all())
    assert after.messages == []
    assert [call.place for call in after.usage] == [0, 1]


def test_a_checkpoint_at_the_exit_of_a_graph_has_what_its_own_ended_tasks_have_said() -> None:
    kept = records()
    said = {
        "outer": ("outer",),
        "done": ("outer", "done"),
        "asks": ("outer", "asks"),
        "late": ("outer", "late"),
    }
    for name, tasks in said.items():
        kept.say(tasks, message(name))
    kept.say(("other", "inner"), message("other"))
    kept.finish("done", 1)
    kept.finish("late", 2)
    kept.finish("inner", 1)
    # Its task is open: the graph around it stores nothing of it.
    assert kept.of_finished((), 1) == []
    assert [part.content for part in kept.of_finished(("outer",), 1)] == [b'"done"']
    assert [part.content for part in kept.of_task("late")] == [b'"late"']
    kept.finish("other", 1)
    assert [part.content for part in kept.of_finished((), 1)] == [b'"other"']
    assert [part.content for part in kept.all()] == [b'"outer"', b'"asks"']


def test_more_than_an_attempt_may_store_is_left_out_and_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "PER_FENCE", 3)
    kept = records()
    taken = [kept.take([message(name), message(name)]) for name in "abc"]
    assert [row[1] for rows in taken for row in rows.messages] == [10, 11]
    assert [line.__dict__["event"] for line in caplog.records] == ["messages.full"]


def test_messages_count_in_the_size_of_a_statement() -> None:
    kept, group = records(), Group()
    group.add(WritesPut({}, upsert=False, root_input=False, answers=False, messages=[message("abc")]))
    assert group.size == message("abc").size == 7
    kept.say((), message("loose"))
    kept.say(("task",), message("of a task that goes on"))
    assert kept.loose_bytes == message("loose").size
    group.said += kept.all()
    assert group.size > 40
    kept.say((), message("last"))
    assert size_of(kept.last(ends=True)) == message("last").size
