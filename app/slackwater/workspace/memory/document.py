"""The document that a memory is, and what edits make of it. Pure.

It has the shape that DeerFlow's clients know: three sections each below `user` and `history`, and facts. Whoever writes it may
have made it by hand, or put anything in its place: what is no part of the shape is left out.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from itertools import count
from typing import Any

Document = dict[str, Any]
Fact = dict[str, Any]
Edit = Callable[[Document], Document]
"""What somebody makes of the memory as it is. It may be asked again, if somebody else was faster; it changes nothing in place."""

SECTIONS: Mapping[str, tuple[str, ...]] = {
    "user": ("workContext", "personalContext", "topOfMind"),
    "history": ("recentMonths", "earlierContext", "longTermBackground"),
}
VERSION = "1.0"
MANUAL = "manual"
"""The source of what users write themselves."""


class NoSuchFact(LookupError):
    """There is none with that id."""


class FactHasChanged(ValueError):
    """Somebody else has changed just that of it."""


def now() -> str:
    """This moment, as memories say it."""
    return datetime.now(UTC).isoformat().removesuffix("+00:00") + "Z"


def empty() -> Document:
    """The memory of whom nothing is known."""
    return read(None)


def read(value: object) -> Document:
    """What is kept, whatever it is, in the shape of a memory."""
    kept = value if isinstance(value, dict) else {}
    return {
        "version": _text(kept.get("version"), VERSION),
        "lastUpdated": _text(kept.get("lastUpdated")) or now(),
        **{part: _sections(kept.get(part), names) for part, names in SECTIONS.items()},
        "facts": _facts(kept.get("facts")),
    }


def _sections(value: object, names: Iterable[str]) -> dict[str, dict[str, str]]:
    kept = value if isinstance(value, dict) else {}
    return {name: _section(kept.get(name)) for name in names}


def _section(value: object) -> dict[str, str]:
    kept = value if isinstance(value, dict) else {}
    return {"summary": _text(kept.get("summary")), "updatedAt": _text(kept.get("updatedAt"))}


def _facts(value: object) -> list[Fact]:
    """Those that say something, each with an id of its own."""
    facts: list[Fact] = []
    taken: set[str] = set()
    for item in value if isinstance(value, list) else ():
        if not isinstance(item, dict) or not (content := _text(item.get("content")).strip()):
            continue
        fact_id = _text(item.get("id"))
        if not fact_id or fact_id in taken:
            fact_id = _derived_id(content, taken)
        taken.add(fact_id)
        fact = {
            "id": fact_id,
            "content": content,
            "category": _text(item.get("category")).strip() or "context",
            "confidence": _confidence(item.get("confidence")),
            "createdAt": _text(item.get("createdAt")),
            "source": _text(item.get("source"), "unknown"),
        }
        if isinstance(error := item.get("sourceError"), str):
            fact["sourceError"] = error
        facts.append(fact)
    return facts


def _text(value: object, otherwise: str = "") -> str:
    return value if isinstance(value, str) else otherwise


def _confidence(value: object) -> float:
    return float(value) if is_confidence(value) else 0.5  # type: ignore[arg-type]


def is_confidence(value: object) -> bool:
    """Whether it is a number from 0 to 1."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _derived_id(content: str, taken: Collection[str]) -> str:
    """An id for a fact without one, which a graph has put there: the same at each look, so that the fact can be named."""
    for n in count():
        made = f"fact_{hashlib.sha256(f'{n} {content}'.encode()).hexdigest()[:8]}"
        if made not in taken:
            return made
    raise AssertionError


def new_id(taken: Iterable[str] = ()) -> str:
    """An id that none of those is."""
    while (made := f"fact_{secrets.token_hex(4)}") in taken:
        pass
    return made


def new_fact(content: str, category: str, confidence: float, source: str, taken: Iterable[str] = ()) -> Fact:
    """A fact with an id that none of those is."""
    return {
        "id": new_id(taken),
        "content": content.strip(),
        "category": category.strip() or "context",
        "confidence": confidence,
        "createdAt": now(),
        "source": source,
    }


# Edits


def add(content: str, category: str, confidence: float, source: str) -> Edit:
    """One more fact."""

    def edit(document: Document) -> Document:
        taken = {fact["id"] for fact in document["facts"]}
        return _with(document, [*document["facts"], new_fact(content, category, confidence, source, taken)])

    return edit


def change(fact_id: str, changed: Mapping[str, Any]) -> Edit:
    """Another content, category or confidence of a fact.

    The edit raises NoSuchFact, and FactHasChanged if it is asked again and one of these is not what it was, nor what it is to be.
    """
    first: Fact = {}

    def edit(document: Document) -> Document:
        _require(document, fact_id)
        facts = []
        for fact in document["facts"]:
            if fact["id"] == fact_id:
                first.update({**fact, **first})
                if any(fact[name] not in (first[name], value) for name, value in changed.items()):
                    raise FactHasChanged
                fact = {**fact, **changed}
            facts.append(fact)
        return _with(document, facts)

    return edit


def remove(fact_id: str) -> Edit:
    """One fact less. The edit raises NoSuchFact."""

    def edit(document: Document) -> Document:
        _require(document, fact_id)
        return _with(document, [fact for fact in document["facts"] if fact["id"] != fact_id])

    return edit


def replace(by: Document) -> Edit:
    """Another memory."""
    return lambda _: {**read(by), "lastUpdated": now()}


def _with(document: Document, facts: list[Fact]) -> Document:
    return {**document, "facts": facts, "lastUpdated": now()}


def _require(document: Document, fact_id: str) -> None:
    if all(fact["id"] != fact_id for fact in document["facts"]):
        raise NoSuchFact(fact_id)
