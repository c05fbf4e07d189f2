"""One call before it is made: who calls, what it is about, and the numbers that decide the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import cycle
from typing import Any, TypeVar

from tests.fuzz.tenants import Cast, Tenant
from tests.fuzz.things import Sort, Thing, Things, nothing
from tests.fuzz.wire import Answer

T = TypeVar("T")

WINDOW = 8
"""How many of the newest things are chosen from: what goes on at the same time meets."""


class Whose(Enum):
    """What a call is about."""

    OWN = "own"
    FOREIGN = "foreign"
    ABSENT = "absent"


@dataclass
class Ask:
    """A call. `{name}` in its path, its headers and its body stands for the id of `things[name]`."""

    method: str
    path: str
    body: Any = None
    things: Mapping[str, Thing] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    makes: Sequence[Thing] = ()
    compared: bool = True
    """Whether what is another's has to be answered like what is not there."""
    stored: bool = False
    """Whether what it says of others is stored as the caller's."""
    endless: bool = False
    """A stream that stays open until the example is over."""
    says: Sequence[Any] = ()
    """What is sent when a WebSocket is open."""
    expects: Callable[[Answer], bool] | None = None
    """What else has to hold of its answer, if it is a 200."""

    def foreign(self, tenant: Tenant) -> dict[str, Thing]:
        """What of it is another's."""
        return {name: thing for name, thing in self.things.items() if thing.is_foreign_to(tenant)}


@dataclass
class Draw:
    """What a call is made of."""

    me: Tenant
    whose: Whose
    cast: Cast
    things: Things
    numbers: Sequence[int]
    hook: str
    """The URL of a receiver."""
    serial: int

    def __post_init__(self) -> None:
        self._numbers: Iterator[int] = cycle(self.numbers)

    def number(self, below: int) -> int:
        return next(self._numbers) % below

    def one(self, *choices: T) -> T:
        return choices[self.number(len(choices))]

    def seldom(self) -> bool:
        return self.number(5) == 4

    # Things

    def pick(self, sort: Sort, thread: Thing | None = None) -> Thing:
        """What the call is about."""
        match self.whose:
            case Whose.OWN:
                return self.own(sort, thread)
            case Whose.FOREIGN:
                return self.other(sort, thread)
            case Whose.ABSENT:
                return nothing(sort, self.me)

    def own(self, sort: Sort, thread: Thing | None = None) -> Thing:
        return self._newest(self.things.of(sort, self.me, own=True, thread=thread), sort)

    def other(self, sort: Sort, thread: Thing | None = None) -> Thing:
        return self._newest(self.things.of(sort, self.me, own=False, thread=thread), sort)

    def made(self, sort: Sort, **of: Any) -> Thing:
        return Thing(sort, self.me, **of)

    def _newest(self, found: Sequence[Thing], sort: Sort) -> Thing:
        number = self.number(WINDOW)
        return found[-1 - number % len(found)] if found else nothing(sort, self.me)

    # Words

    def text(self, thing: Thing | None = None) -> str:
        """Something with the caller's mark or, on what they share, their team's."""
        return f"{self.mark(thing)} {self.serial}"

    def mark(self, thing: Thing | None = None) -> str:
        shared = thing is not None and thing.shared and thing.seen_by(self.me)
        return str(self.me.team) if shared else self.me.mark

    def somebody(self) -> Tenant:
        """Another one."""
        others = [tenant for tenant in self.cast.tenants if tenant is not self.me]
        return others[self.number(len(others))]
