"""What the tenants have made, in the order in which they asked for it: so an example can be told again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from uuid import uuid4

from tests.fuzz.tenants import Tenant
from tests.fuzz.wire import Answer


class Sort(Enum):
    """Of things."""

    THREAD = "thread"
    RUN = "run"
    ASSISTANT = "assistant"
    CRON = "cron"
    CHECKPOINT = "checkpoint"


Learn = Callable[[Answer], str | None]
"""Reads the id of what was made out of an answer; None: nothing was made."""


@dataclass(eq=False)
class Thing:
    """What was made, or is being made."""

    sort: Sort
    owner: Tenant
    learn: Learn | None = None
    thread: Thing | None = None
    """Of a run or a checkpoint; None for a run without a thread, whose own is learned with it."""
    shared: bool = False
    """Whether the team sees it."""
    lasting: bool = True
    """Whether it is there until its owner deletes it."""
    gone: bool = False
    """Whether somebody who may has perhaps deleted it."""
    versions: int = 1
    latest: bool = False
    """Of an assistant: whether its owner has chosen a version."""
    id: str | None = None
    """Once it is known; None then: nothing was made."""
    known: asyncio.Event = field(default_factory=asyncio.Event)
    remade_by: set[Tenant] = field(default_factory=set)
    """Who has perhaps made another one with its id, after it was gone: what they see there is their own."""

    def is_foreign_to(self, tenant: Tenant) -> bool:
        """Whether it has to look to them like what is not there."""
        whole = self.thread or self
        return not self.seen_by(tenant) and tenant not in whole.remade_by

    def seen_by(self, tenant: Tenant) -> bool:
        return self.owner is tenant or (self.shared and self.owner.team == tenant.team)

    def learned(self, id_: str | None) -> None:
        self.id = id_
        self.known.set()


class Things:
    """All of one example."""

    def __init__(self) -> None:
        self.all: list[Thing] = []
        self.swept: set[Tenant] = set()
        """Who has deleted an assistant with all that is its, perhaps later than they have made more of it."""

    def add(self, thing: Thing) -> Thing:
        self.all.append(thing)
        return thing

    def of(self, sort: Sort, tenant: Tenant, *, own: bool, thread: Thing | None = None) -> Sequence[Thing]:
        """What the tenant sees, or else what others have."""
        return [
            thing
            for thing in self.all
            if thing.sort is sort
            and thing.seen_by(tenant) is own
            and (thread is None or thing.thread is thread)
        ]


def nothing(sort: Sort, tenant: Tenant) -> Thing:
    """An id of nothing."""
    thing = Thing(sort, tenant)
    thing.learned(str(uuid4()))
    return thing


def field_of(name: str) -> Learn:
    """An id that stands in the body."""

    def learn(answer: Answer) -> str | None:
        value = answer.fields.get(name)
        return str(value) if value else None

    return learn


def run_in(answer: Answer) -> str | None:
    """The id of the run that was started, from where the answer says that it is, or from its body."""
    return _place(answer).get("runs") or field_of("run_id")(answer)


def thread_in(answer: Answer) -> str | None:
    """The id of its thread."""
    return _place(answer).get("threads") or field_of("thread_id")(answer)


def _place(answer: Answer) -> dict[str, str]:
    """`/threads/{id}/runs/{id}/stream` as names and ids."""
    parts = answer.headers.get("location", "").split("?")[0].strip("/").split("/")
    return dict(zip(parts[::2], parts[1::2], strict=False))
