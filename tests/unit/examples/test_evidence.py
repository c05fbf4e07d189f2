"""The demo's verdicts: what must not pass does not pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

A, B = 100, 200


def seen() -> Any:
    """What the demo sees of a run over one text that goes as it should."""
    from handover.evidence import Evidence

    evidence = Evidence()
    steps = ["plan", "read", "outline", "summarise", "check", "overview", "write"]
    for step, node in enumerate(steps, start=1):
        file = "a.txt" if node in steps[1:5] else None
        pid, fence = (A, 1) if step <= 3 else (B, 2)
        chunk = {"superstep": step, "node": node, "file": file, "process": pid, "at": 1000.0 + step}
        evidence.record("custom", chunk, f"{fence}-{step * 10}")
        if node in ("summarise", "overview"):
            for number, word in enumerate(("All ", "is well."), start=1):
                about = {"langgraph_node": node, "file": file}
                evidence.record("messages", [{"content": word}, about], f"{fence}-{step * 10 + number}")
        evidence.record("updates", {node: None}, f"{fence}-{step * 10 + 9}")
    evidence.logged = list(evidence.ids)
    evidence.state = {
        "names": ["a.txt"],
        "notes": {"a.txt": {"summary": "All is well."}},
        "overview": "All is well.",
    }
    evidence.history = [
        {"metadata": {"step": step}, "created_at": f"1970-01-01T00:16:{max(40 + step, 40):02}.500000+00:00"}
        for step in range(7, -2, -1)
    ]
    evidence.status = "success"
    evidence.exit_codes = {"A": 0, "B": 0}
    evidence.report = {"runs": [{"outcome": "drained", "handed_over": True}]}
    return evidence


def broken(evidence: Any) -> list[str]:
    from handover.evidence import verdicts

    return [verdict.broken for verdict in verdicts(evidence) if verdict.broken]


def test_a_run_that_goes_as_it_should_keeps_every_promise() -> None:
    evidence = seen()

    assert broken(evidence) == []
    assert evidence.boundary() == (3, 4)
    assert evidence.pause() == pytest.approx(0.5)


def test_the_first_event_of_another_owner_is_noticed() -> None:
    from handover.evidence import Evidence

    evidence = Evidence()

    assert evidence.record("metadata", {}, "1-1") is None
    assert evidence.record("updates", {"plan": None}, "1-2") is None
    assert evidence.record("updates", {"read": None}, "2-1") == ("1-2", "2-1")


def a_node_starts_twice(evidence: Any) -> None:
    evidence.started.append((3, "outline", "a.txt"))


def a_node_is_lost(evidence: Any) -> None:
    evidence.finished["check"] = 0


def a_text_is_lost(evidence: Any) -> None:
    evidence.state["names"].append("b.txt")


def an_event_is_lost(evidence: Any) -> None:
    del evidence.ids[5]


def an_event_comes_twice(evidence: Any) -> None:
    evidence.ids.insert(5, evidence.ids[5])


def events_change_places(evidence: Any) -> None:
    evidence.ids[4], evidence.ids[5] = evidence.ids[5], evidence.ids[4]


def there_are_no_events(evidence: Any) -> None:
    evidence.ids.clear()
    evidence.logged.clear()


def a_word_is_lost(evidence: Any) -> None:
    evidence.words["summarise", "a.txt"] = "All well."


def a_checkpoint_is_missing(evidence: Any) -> None:
    evidence.history.pop(3)


def one_process_does_everything(evidence: Any) -> None:
    evidence.processes.update({step: {A} for step in range(1, 8)})


def two_processes_work_on_one_superstep(evidence: Any) -> None:
    evidence.processes[4] = {A, B}


def the_run_fails(evidence: Any) -> None:
    evidence.status = "error"


def a_process_is_killed(evidence: Any) -> None:
    evidence.exit_codes = {"A": -9, "B": 0}


def the_run_is_cut(evidence: Any) -> None:
    evidence.report["runs"][0]["outcome"] = "cancelled"


def there_is_no_report(evidence: Any) -> None:
    evidence.report = {}


@pytest.mark.parametrize(
    "spoil",
    [
        a_node_starts_twice,
        a_node_is_lost,
        a_text_is_lost,
        an_event_is_lost,
        an_event_comes_twice,
        events_change_places,
        there_are_no_events,
        a_word_is_lost,
        a_checkpoint_is_missing,
        one_process_does_everything,
        two_processes_work_on_one_superstep,
        the_run_fails,
        a_process_is_killed,
        the_run_is_cut,
        there_is_no_report,
    ],
)
def test_a_broken_promise_is_seen(spoil: Callable[[Any], None]) -> None:
    evidence = seen()

    spoil(evidence)

    assert len(broken(evidence)) == 1
