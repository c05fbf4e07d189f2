"""What is said of a run where it was asked for: the last answer to the last message of a person."""

from __future__ import annotations

from typing import Any

import pytest

from slackwater.channels.message import answer_in
from slackwater.channels.slack import POST_CHARACTERS, WAITS, answer_of, incoming_in, post, shown, text_for
from tests.support.slack import event

ASKED = {"type": "human", "content": "and now?"}
TOLD = {"type": "ai", "content": "Ebb."}


@pytest.mark.parametrize(
    ("messages", "answer"),
    [
        ([ASKED, TOLD], "Ebb."),
        ([ASKED, TOLD, {"type": "ai", "content": ""}, {"type": "tool", "content": "x"}], "Ebb."),
        (
            [ASKED, {"type": "ai", "content": [{"type": "text", "text": "E"}, {"type": "image"}, "bb."]}],
            "Ebb.",
        ),
        ([ASKED, TOLD, ASKED], None),
        ([ASKED, {"type": "tool", "content": "x"}], None),
        ([], None),
        (None, None),
        ("Ebb.", None),
        ([1], None),
    ],
)
def test_the_answer(messages: Any, answer: str | None) -> None:
    assert answer_in({"messages": messages}) == answer
    assert answer_in(messages) is None  # the values of a graph may be anything


@pytest.mark.parametrize(
    ("status", "text"),
    [
        ("pending", "Working on it…"),
        ("success", "Done."),
        ("interrupted", "This was stopped."),
        ("error", "Something went wrong: there is no answer."),
        ("timeout", "Something went wrong: there is no answer."),
    ],
)
def test_what_is_said_without_one(status: str, text: str) -> None:
    assert text_for({"run": {"status": status}, "values": {"messages": [ASKED]}}) == text


@pytest.mark.parametrize(
    ("messages", "values", "text"),
    [
        ([ASKED], ["Shall I?"], "Shall I?"),
        ([ASKED, TOLD], ["Shall I?", {"tool": "pay"}, "And now?"], "Ebb.\n\nShall I?\n\nAnd now?"),
        ([ASKED], [{"tool": "pay"}], WAITS),
        ([ASKED, TOLD], [" "], f"Ebb.\n\n{WAITS}"),
        ([ASKED, TOLD], [], "Ebb."),
    ],
)
def test_what_a_run_asks_is_told(messages: Any, values: list[Any], text: str) -> None:
    interrupts = {f"task-{n}": [{"id": f"i-{n}", "value": value}] for n, value in enumerate(values)}
    run = {"status": "success", "interrupts": interrupts}
    assert text_for({"run": run, "values": {"messages": messages}}) == text


def test_what_is_escaped_is_not_longer_than_slack_takes_it() -> None:
    run = {"run_id": "r-1", "status": "success"}
    answer = {"messages": [ASKED, {"type": "ai", "content": "a" + "<" * POST_CHARACTERS}]}
    text = shown({"run": run, "values": answer})["text"]
    assert text == "a" + "&lt;" * ((POST_CHARACTERS - 1) // 4)


def test_nobody_is_called_by_an_answer() -> None:
    run = {"run_id": "r-1", "status": "success"}
    answer = {"messages": [ASKED, {"type": "ai", "content": "<!channel> & <@U1>"}]}
    said = shown({"run": run, "values": answer})
    assert said["text"] == "&lt;!channel&gt; &amp; &lt;@U1&gt;"
    # AND it says which run it is of
    assert said["metadata"] == {"event_type": "slackwater_run", "event_payload": run}
    method, body = post({"channel": "C1", "thread_ts": "1.2"}, {"text": "a"})
    assert (method, body) == ("chat.postMessage", b'{"channel":"C1","thread_ts":"1.2","text":"a"}')


@pytest.mark.parametrize("body", [b"", b"[]", b'{"ok": false}', b'{"ok": "yes"}', b"<html>"])
def test_what_slack_does_not_say_was_taken_was_not(body: bytes) -> None:
    said = answer_of(body)
    assert said.message is None
    assert (said.trouble or "").startswith("answered ")


@pytest.mark.parametrize("place", ["type", "channel", "ts", "user", "text"])
@pytest.mark.parametrize("value", [None, 1, {}, []])
def test_an_event_that_says_nothing_is_none(place: str, value: Any) -> None:
    payload = event("app_mention", "<@U0> a", "1.2")
    assert incoming_in(payload) is not None
    payload["event"][place] = value
    assert incoming_in(payload) is None
