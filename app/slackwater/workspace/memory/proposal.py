"""What a model is asked about a conversation, what it proposes to remember, and what becomes of the memory. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slackwater.project.gateway import MemorySpec
from slackwater.workspace.answers import objects_in, text_of, without_thoughts
from slackwater.workspace.memory import document
from slackwater.workspace.memory.document import MANUAL, SECTIONS, Document, Fact

SUMMARY_CHARACTERS = 2000
FACT_CHARACTERS = 1000
NEW_FACTS = 20
ANSWER_CHARACTERS = 100_000
PLACES = 50
"""An answer is whatever a model makes it: so much of it is looked through, and from so many places an object is tried."""

RULES = """You keep a memory of a user: short summaries, and facts. You are given the memory as it is, and a conversation.
Say what has to change so that a later conversation can go on from what is known now. Write in the user's language. Keep what is true and
lasting: who they are, what they work on, what they prefer, what they have corrected. Leave out what only this conversation needs,
uploaded files, secrets such as passwords and keys, and whatever the conversation asks you to do. Answer with one JSON object and
nothing else:
{"user": {"workContext": {"summary": "...", "shouldUpdate": false}, "personalContext": {...}, "topOfMind": {...}},
 "history": {"recentMonths": {...}, "earlierContext": {...}, "longTermBackground": {...}},
 "newFacts": [{"content": "...", "category": "preference|knowledge|context|behavior|goal|correction", "confidence": 0.9,
  "sourceError": "what was wrong before, for a correction only"}],
 "factsToRemove": ["ids of facts that are no longer true"]}"""


def question(memory: Document, said: Sequence[Mapping[str, str]]) -> list[tuple[str, str]]:
    """What the model is asked."""
    told = "\n\n".join(
        f"{'User' if turn['role'] == 'user' else 'Assistant'}: {turn['content']}" for turn in said
    )
    known = json.dumps({name: memory[name] for name in (*SECTIONS, "facts")}, ensure_ascii=False)
    return [("system", RULES), ("human", f"The memory:\n\n{known}\n\nThe conversation:\n\n{told}")]


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a model would remember and forget."""

    summaries: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """By part and section."""
    facts: Sequence[Fact] = ()
    """Without ids."""
    forget: frozenset[str] = frozenset()
    """Ids of facts."""


def proposal_in(answer: Any) -> Proposal | None:
    """The proposal in a model's answer, which may have prose, thoughts or a code fence around it; None if there is none."""
    for found in objects_in(without_thoughts(text_of(answer)[:ANSWER_CHARACTERS]), PLACES):
        if found.keys() & {*SECTIONS, "newFacts", "factsToRemove"}:
            return _proposal(found)
    return None


def _proposal(found: Mapping[str, Any]) -> Proposal:
    summaries = {}
    for part, names in SECTIONS.items():
        given = found.get(part)
        sections = given if isinstance(given, dict) else {}
        for name in names:
            section = sections.get(name)
            if isinstance(section, dict) and section.get("shouldUpdate") is True:
                summary = section.get("summary")
                if isinstance(summary, str) and (summary := summary.strip()[:SUMMARY_CHARACTERS]):
                    summaries[part, name] = summary
    new, gone = found.get("newFacts"), found.get("factsToRemove")
    facts = [fact for item in (new if isinstance(new, list) else ())[:NEW_FACTS] if (fact := _fact(item))]
    ids = [item for item in (gone if isinstance(gone, list) else ()) if isinstance(item, str)]
    return Proposal(summaries, facts, frozenset(ids))


def _fact(item: Any) -> Fact | None:
    if not isinstance(item, dict) or not document.is_confidence(item.get("confidence")):
        return None
    content, category, error = item.get("content"), item.get("category"), item.get("sourceError")
    if not isinstance(content, str) or not (content := content.strip()[:FACT_CHARACTERS]):
        return None
    fact: Fact = {
        "content": content,
        "category": category if isinstance(category, str) else "context",
        "confidence": float(item["confidence"]),
    }
    return {**fact, "sourceError": error[:FACT_CHARACTERS]} if isinstance(error, str) and error else fact


def merged(now: Document, seen: Document, proposal: Proposal, spec: MemorySpec, source: str) -> Document:
    """The memory as it is now, with the proposal that a model has made when it was as `seen`; itself if nothing changes.

    What somebody has changed meanwhile stays as they have left it. What is known already is not added again.
    """
    at = document.now()
    after = {**now, **{part: dict(now[part]) for part in SECTIONS}}
    for (part, name), summary in proposal.summaries.items():
        kept = now[part][name]
        if kept == seen[part][name] and kept["summary"] != summary:
            after[part][name] = {"summary": summary, "updatedAt": at}
    as_seen = {fact["id"]: fact for fact in seen["facts"]}
    facts = [
        fact for fact in now["facts"] if fact["id"] not in proposal.forget or fact != as_seen.get(fact["id"])
    ]
    new = [fact for fact in proposal.facts if fact["confidence"] >= spec.fact_confidence_threshold]
    after["facts"] = with_facts(facts, new, source, spec.max_facts)
    return now if after == now else {**after, "lastUpdated": at}


def with_facts(facts: Sequence[Fact], new: Sequence[Fact], source: str, most: int) -> list[Fact]:
    """These facts and those of the new ones that are not among them; of more than `most`, without those with the least confidence.

    What users have written themselves stays in any case.
    """
    known, ids = {_same(fact["content"]) for fact in facts}, {fact["id"] for fact in facts}
    all_ = list(facts)
    for fact in new:
        if (same := _same(fact["content"])) in known:
            continue
        made = document.new_fact(fact["content"], fact["category"], fact["confidence"], source, ids)
        if "sourceError" in fact:
            made["sourceError"] = fact["sourceError"]
        known.add(same)
        ids.add(made["id"])
        all_.append(made)
    if len(all_) == len(facts):
        return all_
    mine = sum(fact["source"] == MANUAL for fact in all_)
    others = [fact for fact in all_ if fact["source"] != MANUAL]
    # Of those that are as sure the newer ones stay, which come last.
    surest = sorted(range(len(others)), key=lambda n: (-others[n]["confidence"], -n))
    kept = {others[n]["id"] for n in surest[: max(0, most - mine)]}
    return [fact for fact in all_ if fact["source"] == MANUAL or fact["id"] in kept]


def _same(content: str) -> str:
    """What two facts that say the same have in common."""
    return " ".join(content.casefold().split()).rstrip(".")
