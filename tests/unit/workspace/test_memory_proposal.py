"""What is said, what a model proposes to remember, what becomes of the memory, and what prompts say of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage

from slackwater.project.gateway import MemorySpec
from slackwater.workspace.memory import document
from slackwater.workspace.memory.conversation import said
from slackwater.workspace.memory.document import Document
from slackwater.workspace.memory.proposal import Proposal, merged, proposal_in, with_facts
from slackwater.workspace.memory.told import told

SPEC = MemorySpec(max_facts=10)


def fact(content: str, confidence: float = 0.9, **more: Any) -> dict[str, Any]:
    return {"content": content, "category": "context", "confidence": confidence, **more}


def memory(*facts: dict[str, Any], **user: str) -> Document:
    sections = {name: {"summary": summary, "updatedAt": ""} for name, summary in user.items()}
    return document.read({"facts": list(facts), "user": sections, "lastUpdated": "before"})


def contents(memory: Document) -> list[str]:
    return [kept["content"] for kept in memory["facts"]]


def test_users_and_answers_are_heard_and_nobody_else() -> None:
    call = {"name": "look", "args": {}, "id": "1"}
    assert said(
        [
            HumanMessage("<uploaded_files>a.txt</uploaded_files> I am Ann "),
            AIMessage("", tool_calls=[call]),
            ToolMessage("a page", tool_call_id="1"),
            HumanMessage("a reminder", additional_kwargs={"hide_from_ui": True}),
            AIMessageChunk(content=[{"type": "text", "text": "Hello"}, {"type": "image_url", "x": 1}]),
            {"role": "user", "content": "x" * 5000},
            ("ai", "Bye"),
            {"type": "system", "content": "no"},
            7,
        ]
    ) == [
        {"role": "user", "content": "I am Ann"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "x" * 4000},
        {"role": "assistant", "content": "Bye"},
    ]
    assert said([AIMessage("I know"), HumanMessage(" ")]) == []


def test_a_proposal_is_found_in_whatever_a_model_answers() -> None:
    given = {
        "user": {
            "workContext": {"summary": " Bridges ", "shouldUpdate": True},
            "topOfMind": {"summary": "x"},
        },
        "history": [],
        "newFacts": [fact("a", sourceError="b"), fact("", 1), fact("no", 2), 7, {"content": "no"}],
        "factsToRemove": ["fact_1", 7],
    }
    text = f'<think>{{"newFacts": []}}</think>Here: {{x}} ```json\n{json.dumps(given)}\n```'
    for answer in (text, [{"type": "text", "text": text}]):
        assert proposal_in(answer) == Proposal(
            {("user", "workContext"): "Bridges"}, [fact("a", sourceError="b")], frozenset({"fact_1"})
        )
    for nothing in ("I would rather not.", '{"x": 1}', "[1]", "{" * 10_000, None):
        assert proposal_in(nothing) is None


def test_a_proposal_leaves_what_others_have_changed_meanwhile() -> None:
    seen = memory(fact("old", id="1"), fact("wrong", id="2"), workContext="Roads", topOfMind="Tea")
    now = memory(fact("old, by hand", id="1"), fact("wrong", id="2"), workContext="Roads", topOfMind="Coffee")
    proposal = Proposal(
        {("user", "workContext"): "Bridges", ("user", "topOfMind"): "Milk"},
        [fact("New."), fact("OLD,  by hand"), fact("unsure", 0.6), fact("new", sourceError="x")],
        frozenset({"1", "2", "3"}),
    )
    after = merged(now, seen, proposal, SPEC, "thread")
    assert contents(after) == ["old, by hand", "New."]
    assert after["facts"][1]["source"] == "thread"
    assert after["user"]["workContext"]["summary"] == "Bridges"
    assert after["user"]["workContext"]["updatedAt"] == after["lastUpdated"] != "before"
    assert after["user"]["topOfMind"]["summary"] == "Coffee"
    # Once more, of what it has made: there is nothing to do
    assert merged(after, after, Proposal(facts=proposal.facts), SPEC, "thread") is after
    assert now["user"]["workContext"]["summary"] == "Roads"  # nothing is changed in place


def test_of_too_many_facts_the_least_sure_go_and_never_the_users_own() -> None:
    mine = [fact(f"mine {n}", 0.1, id=f"m{n}", source="manual") for n in range(9)]
    kept = memory(*mine, fact("sure", 0.8, id="s"), fact("less", 0.7, id="l"))
    # What is there already is not forgotten as long as nothing is added.
    assert len(with_facts(kept["facts"], [fact("sure")], "t", 10)) == 11
    after = with_facts(kept["facts"], [fact("surest", 0.95), fact("least", 0.1)], "t", 10)
    assert [found["content"] for found in after] == [*(f"mine {n}" for n in range(9)), "surest"]


@pytest.mark.parametrize("tokens", [100, 8000])
def test_a_prompt_says_the_surest_as_far_as_there_is_room(tokens: int) -> None:
    assert told(memory(), tokens) == ""
    many = [fact(f"fact {n} " + "x" * 50, n / 100, category="c") for n in range(100)]
    text = told(memory(*many, workContext="Builds\nbridges"), tokens)
    assert len(text) <= 4 * tokens
    lines = text.splitlines()
    assert lines[0] == "Work: Builds bridges"
    assert lines[1].startswith("- [c] fact 99 xx")
    assert (len(lines) == 101) == (tokens == 8000)


def test_a_fact_without_an_id_has_the_same_one_at_each_look() -> None:
    """A graph may have put it there: whoever has read it has to be able to name it."""
    kept = {"facts": [{"content": "likes tea"}, {"content": "likes tea"}, {"content": "is in Oslo"}]}

    ids = [fact["id"] for fact in document.read(kept)["facts"]]

    assert len(set(ids)) == 3
    assert ids == [fact["id"] for fact in document.read(kept)["facts"]]


@pytest.mark.parametrize("number", [10**400, float("nan"), float("inf"), -0.1, True, "1"])
def test_what_is_no_confidence(number: Any) -> None:
    """JSON has integers of any length, which no float holds."""
    assert not document.is_confidence(number)
    assert document.read({"facts": [fact("a", number)]})["facts"][0]["confidence"] == 0.5
