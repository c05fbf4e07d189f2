"""The differences that are meant. Each belongs to one line of docs/compatibility.md, which gives the reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tests.differential.compare import Difference

ANYTHING: Any = object()


@dataclass(frozen=True)
class At:
    """Where, in the words of a `Difference.place`; `*` stands for anything. Values, or tests of them, narrow it down."""

    place: str
    official: Any = ANYTHING
    ours: Any = ANYTHING

    def covers(self, found: Difference) -> bool:
        pattern = ".*".join(re.escape(part) for part in self.place.split("*"))
        return (
            re.fullmatch(pattern, found.place, re.DOTALL) is not None
            and _is(found.official, self.official)
            and _is(found.ours, self.ours)
        )


def _is(value: Any, wanted: Any) -> bool:
    if wanted is ANYTHING:
        return True
    if isinstance(wanted, Callable):  # type: ignore[arg-type]
        return bool(wanted(value))
    return bool(type(value) is type(wanted) and value == wanted)


@dataclass(frozen=True)
class Deliberate:
    """A line of docs/compatibility.md, by its first words, and the places where it shows."""

    line: str
    places: tuple[At, ...]


def explained(
    found: Iterable[Difference], deliberate: Iterable[Deliberate]
) -> tuple[list[Difference], list[tuple[str, At]]]:
    """The differences that nothing explains, and the explanations that explain nothing any more."""
    places = [(entry.line, place) for entry in deliberate for place in entry.places]
    used: set[int] = set()
    unexplained = []
    for difference in found:
        covering = [number for number, (_, place) in enumerate(places) if place.covers(difference)]
        used.update(covering)
        if not covering:
            unexplained.append(difference)
    return unexplained, [entry for number, entry in enumerate(places) if number not in used]
