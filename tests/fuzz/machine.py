"""The state machine: who calls what, in which order, and when a process is stopped."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from hypothesis import Verbosity
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.fuzz import dump
from tests.fuzz.calls import CALLS, WEIGHTED, slow_run
from tests.fuzz.draw import Draw, Whose
from tests.fuzz.world import World
from tests.support.machines import try_out

STEPS = 200
"""Calls in one example, at most; as many again are made to compare."""

DRAWN = 14
"""Bytes: who calls what about whose, by which door, and ten numbers."""

TIME = "a year passes"
ACTS = [*WEIGHTED, TIME, TIME, TIME]
WHO = (0, 1, 3, 4, 0, 1, 3, 2)
"""Of a cast, how often each."""
WHOSE = (Whose.OWN, Whose.FOREIGN, Whose.OWN, Whose.FOREIGN, Whose.OWN, Whose.FOREIGN, Whose.ABSENT)


class Calls(RuleBasedStateMachine):
    """People who call."""

    world: ClassVar[World]
    stop: ClassVar[signal.Signals | None] = None
    """What a process gets in the middle of each example."""
    found: ClassVar[list[Exception]] = []

    def __init__(self) -> None:
        super().__init__()
        self.example = self.world.begin()
        self.failed = False
        self.stop_at = 0

    @initialize(at=st.integers(20, STEPS // 2))
    def begin(self, at: int) -> None:
        self.stop_at = at

    @rule(drawn=st.binary(min_size=DRAWN, max_size=DRAWN))
    def calls(self, drawn: bytes) -> None:
        """One call, whose answer may come much later. One draw decides all of it: each costs a millisecond."""
        if not any(drawn):
            return  # the simplest call of all: Hypothesis begins with it
        act, who, whose, door, *numbers = drawn
        self.one(ACTS[act % len(ACTS)], WHO[who % len(WHO)], WHOSE[whose % len(WHOSE)], door, numbers)

    def one(self, name: str, who: int, whose: Whose, door: int, numbers: list[int]) -> None:
        example = self.example
        example.serial += 1
        with self._telling():
            if self.stop is not None and example.serial == self.stop_at:
                self.stop_one()
            if name == TIME:
                example.story.append(TIME)
                dump.due(self.world.database, example)
                return
            me = example.cast.tenants[who]
            draw = Draw(
                me, whose, example.cast, example.things, numbers, self.world.hooks.url, example.serial
            )
            ask = CALLS[name](draw)
            example.story.append(
                f"{me.name}, {whose.value}, door {door}: {ask.method} {ask.path} {ask.body or ''}"
            )
            self.world.calls[name] += 1
            self.world.launch(example, me, ask, door)

    def stop_one(self) -> None:
        """Stop a process that is working for everybody."""
        example, world = self.example, self.world
        assert self.stop is not None
        example.story.append(f"--- {self.stop.name}")
        for tenant in example.cast.tenants:
            draw = Draw(tenant, Whose.OWN, example.cast, example.things, [0], "", example.serial)
            world.launch(example, tenant, slow_run(draw), 0)
        world.stop(example, self.stop)

    def teardown(self) -> None:
        if self.failed:
            self.world.abandon()
            return
        with self._telling():
            self.world.end(self.example, rest=self.stop is not None)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not self.failed:
                self.failed = True
                self.found.append(error)
                error.add_note("What was called:\n  " + "\n  ".join(self.example.story))
            raise


def check(
    world: World,
    *,
    examples: int,
    seed: int,
    steps: int = STEPS,
    stop: signal.Signals | None = None,
    shrink: bool = False,
) -> None:
    """Try so many examples, the same calls each time for one seed. Raises what does not hold."""
    Calls.world, Calls.stop, Calls.found = world, stop, []
    try_out(Calls, examples=examples, steps=steps, seed=seed, shrink=shrink, verbosity=Verbosity.quiet)
