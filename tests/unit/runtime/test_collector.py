"""The body of `/wait` and `/join`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from streaming import run_of

from slackwater.runtime.events.result import Collector

IDLE = {"status": "idle", "values": {"text": "kept"}, "interrupts": {}, "error": None}
ERROR = {"error": "ValueError", "message": "boom"}
ONE = {"id": "1", "value": "one?"}
TWO = {"id": "2", "value": "two?"}


def body(*events: tuple[str, Any], thread: dict[str, Any] | None = None) -> Any:
    collector = Collector()
    for name, data in events:
        collector.feed(name, json.dumps(data).encode())
    return json.loads(collector.body(thread))


def test_it_is_the_last_values_of_the_root_graph() -> None:
    events = [("metadata", {}), ("values", {"n": 1}), ("values", {"n": 2}), ("values|child:1", {"n": 3})]
    assert body(*events, ("updates", {"node": {"n": 4}}), thread=IDLE) == {"n": 2}


def test_an_error_wins_over_everything() -> None:
    asked = ("values", {"n": 1, "__interrupt__": [ONE]})
    assert body(asked, ("error", ERROR), ("values", {"n": 2}), thread=IDLE) == {"__error__": ERROR}


def test_one_interrupt_comes_with_its_values() -> None:
    chunk = {"n": 1, "__interrupt__": [ONE]}
    assert body(("values", {"n": 1}), ("values", chunk), thread=IDLE) == chunk
    assert body(("updates", {"__interrupt__": [ONE]})) == {"__interrupt__": [ONE]}


@pytest.mark.parametrize("values_first", [True, False])
def test_the_same_interrupt_in_values_and_updates_is_one(values_first: bool) -> None:
    chunk = {"n": 1, "__interrupt__": [ONE]}
    events = [("values", chunk), ("updates", {"__interrupt__": [ONE]})]
    assert body(*(events if values_first else events[::-1])) == chunk


def test_several_interrupts_come_alone_and_in_order() -> None:
    events = [("values", {"n": 1, "__interrupt__": [ONE]}), ("values", {"n": 1, "__interrupt__": [TWO]})]
    assert body(*events, ("values", {"n": 2})) == {"__interrupt__": [ONE, TWO]}


def test_a_static_breakpoint_and_a_text_are_no_interrupts() -> None:
    events = [("values", {"text": 'say "__interrupt__"'}), ("updates", {"__interrupt__": []})]
    assert body(*events) == {"text": 'say "__interrupt__"'}


@pytest.mark.parametrize(
    ("thread", "answer"),
    [
        (None, {}),
        (IDLE, {"text": "kept"}),
        ({**IDLE, "values": None}, {}),
        ({**IDLE, "status": "error", "error": ERROR}, {"__error__": ERROR}),
        (
            {**IDLE, "status": "interrupted", "interrupts": {"a": [ONE], "b": [TWO]}},
            {"__interrupt__": [ONE, TWO]},
        ),
        ({**IDLE, "status": "interrupted"}, {"text": "kept"}),
    ],
)
def test_a_run_that_said_nothing_is_answered_from_its_thread(
    thread: dict[str, Any] | None, answer: dict[str, Any]
) -> None:
    assert body(("metadata", {}), ("custom", {"n": 1}), thread=thread) == answer


def test_it_is_silent_until_an_answer_could_be_made() -> None:
    collector = Collector()
    collector.feed("custom", b"1")
    assert collector.silent
    collector.feed("values", b"{}")
    assert not collector.silent


def test_feedback_is_added() -> None:
    assert body(("values", {"n": 1}), ("feedback", {"key": "url"})) == {
        "n": 1,
        "__feedback__": {"key": "url"},
    }
    assert body(("values", [1]), ("feedback", {"key": "url"})) == [1]


@pytest.mark.parametrize(
    ("name", "given", "keys"),
    [
        ("hitl", {"text": "w"}, {"text", "answers", "__interrupt__"}),
        ("panel", {"text": "w"}, {"__interrupt__"}),
        ("subgraph", {"text": "w"}, {"text", "trail"}),
    ],
)
async def test_real_runs_come_to_their_answer(name: str, given: dict[str, Any], keys: set[str]) -> None:
    run = run_of(name, ["values", "updates"], subgraphs=True)
    await run.attempt(given)
    collector = Collector()
    for event in run.log:
        collector.feed(*event)
    assert set(json.loads(collector.body(IDLE))) == keys
