"""Where two normalised traces differ. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from tests.differential.normal import ID


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


ABSENT: Any = _Absent()
"""Stands for what only the other one has."""

SHOWN = 300


@dataclass(frozen=True)
class Difference:
    """One place where the answers are not the same: `scenario / step: path`, and both values."""

    place: str
    official: Any
    ours: Any

    def __str__(self) -> str:
        return f"{self.place}\n    official: {_short(self.official)}\n    ours:     {_short(self.ours)}"


class Pairs:
    """Which id here is which id there: the first two that are met at the same place, and from then on no other."""

    def __init__(self) -> None:
        self._ours: dict[str, str] = {}
        self._official: dict[str, str] = {}

    def same(self, official: str, ours: str) -> bool:
        """Whether two texts are equal but for ids that are each other's."""
        if ID.sub("", official) != ID.sub("", ours):
            return False
        pairs = list(zip(ID.findall(official), ID.findall(ours), strict=True))
        if any(self._ours.get(a, b) != b or self._official.get(b, a) != a for a, b in pairs):
            return False
        for a, b in pairs:
            self._ours[a], self._official[b] = b, a
        return True

    def copy(self) -> Pairs:
        pairs = Pairs()
        pairs._ours, pairs._official = dict(self._ours), dict(self._official)
        return pairs

    def translated(self, official: str) -> str:
        return ID.sub(lambda found: self._ours.get(found.group(), found.group()), official)


def differences(
    scenario: str, official: list[tuple[str, Any]], ours: list[tuple[str, Any]]
) -> Iterator[Difference]:
    """All of them. The steps are the same ones on both sides, as the scenario is."""
    pairs = Pairs()
    for position in range(max(len(official), len(ours))):
        label, theirs = official[position] if position < len(official) else (ours[position][0], ABSENT)
        mine = ours[position][1] if position < len(ours) else ABSENT
        step = f"{scenario} / {label}: "
        before, after = _status(theirs), _status(mine)
        if before != after:
            # Of a refusal and an answer nothing else can be compared.
            yield Difference(f"{step}status", before, after)
            continue
        refused = isinstance(before, int) and before >= 400
        yield from _Walk(f"{step}{before} " if refused else step, pairs).walk("", theirs, mine)


def _status(answer: Any) -> Any:
    return answer.get("status") if isinstance(answer, dict) else None


class _Walk:
    """Through one step's answers, side by side."""

    def __init__(self, step: str, pairs: Pairs) -> None:
        self._step, self._pairs = step, pairs

    def walk(self, path: str, official: Any, ours: Any) -> Iterator[Difference]:
        if isinstance(official, dict) and isinstance(ours, dict):
            yield from self._objects(path, official, ours)
        elif isinstance(official, list) and isinstance(ours, list):
            for position in range(max(len(official), len(ours))):
                theirs = official[position] if position < len(official) else ABSENT
                mine = ours[position] if position < len(ours) else ABSENT
                yield from self.walk(f"{path}[{position}]", theirs, mine)
        elif isinstance(official, str) and isinstance(ours, str):
            if not self._pairs.same(official, ours):
                yield Difference(self._step + path, official, ours)
        elif type(official) is not type(ours) or official != ours:
            yield Difference(self._step + path, official, ours)

    def _objects(self, path: str, official: dict[str, Any], ours: dict[str, Any]) -> Iterator[Difference]:
        rest = dict(ours)
        for key, theirs in official.items():
            found = self._key(key, theirs, rest)
            mine = rest.pop(found) if found is not None else ABSENT
            inner = f"{path}.{ID.sub('<id>', key)}" if path else key
            if key == "events" and isinstance(theirs, list) and isinstance(mine, list):
                yield from self._events(inner, theirs, mine)
            else:
                yield from self.walk(inner, theirs, mine)
        for key, mine in rest.items():
            yield from self.walk(f"{path}.{ID.sub('<id>', key)}" if path else key, ABSENT, mine)

    def _key(self, official: str, value: Any, ours: dict[str, Any]) -> str | None:
        """Our name of a key: the same, the one whose id is known to be its, or the one like it with the same value."""
        translated = self._pairs.translated(official)
        if translated in ours:
            return translated
        alike = [key for key in ours if ID.search(key) and self._pairs.copy().same(official, key)]
        for key in alike:
            if not any(_Walk("", self._pairs.copy()).walk("", value, ours[key])):
                alike = [key]
                break
        if not alike:
            return None
        assert self._pairs.same(official, alike[0])
        return alike[0]

    def _events(
        self, path: str, official: list[dict[str, Any]], ours: list[dict[str, Any]]
    ) -> Iterator[Difference]:
        """Streams are aligned first, by their events' names: one more event is one difference, not all that follow."""
        before, after = ([ID.sub("<id>", event["event"]) for event in side] for side in (official, ours))
        for _, i, j, k, m in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
            for position in range(max(j - i, m - k)):
                theirs = official[i + position] if i + position < j else ABSENT
                mine = ours[k + position] if k + position < m else ABSENT
                name = before[i + position] if theirs is not ABSENT else after[k + position]
                yield from self.walk(f"{path}[{i + position} {name}]", theirs, mine)


def _short(value: Any) -> str:
    text = repr(value) if value is ABSENT else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} …"
