"""What somebody has answered, relied on for a while by all who would ask the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from slackwater.kit.moment import Moment

K = TypeVar("K")
V = TypeVar("V")

MOST = 10_000
"""How many answers are remembered."""


@dataclass(slots=True)
class Answer(Generic[V]):
    """One of them."""

    value: V
    asked: Moment
    """Before the question."""
    asking: bool = False
    """Somebody asks again."""


class Answers(Generic[K, V]):
    """Belongs to one event loop."""

    def __init__(self) -> None:
        self._answers: dict[K, Answer[V]] = {}
        self._changed: Moment | None = None
        """What was asked before may be what was forgotten then."""

    def recall(self, key: K, *, fresh: float, stale: float) -> Answer[V] | None:
        """What may be relied on; None: ask. After `fresh` seconds one caller asks, after `stale` seconds each."""
        answer = self._answers.get(key)
        if answer is None:
            return None
        age = answer.asked.age
        return answer if age < stale and (answer.asking or age < fresh) else None

    @contextmanager
    def asking(self, key: K) -> Iterator[Moment]:
        """While the question is put, which is now, others rely on the last answer. One that was not put is left to the next."""
        last = self._answers.get(key)
        if last is not None:
            last.asking = True
        try:
            yield Moment.now()
        finally:
            if last is not None:
                last.asking = False

    def remember(self, key: K, value: V, asked: Moment) -> None:
        self.forget(key)
        if self._changed is not None and asked.monotonic <= self._changed.monotonic:
            return
        if len(self._answers) >= MOST:
            del self._answers[next(iter(self._answers))]
        self._answers[key] = Answer(value, asked)

    def forget(self, key: K) -> None:
        self._answers.pop(key, None)

    def forget_where(self, changed: Callable[[V], bool]) -> None:
        """What they are about has changed, also for those who are asking now."""
        self._changed = Moment.now()
        for key in [key for key, answer in self._answers.items() if changed(answer.value)]:
            self.forget(key)
