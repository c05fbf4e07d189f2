"""The model in CI: so many examples hold, and it finds the faults that it was made for when they are put back."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from tests.model.faults import FAULTS
from tests.model.machine import Runs, check
from tests.model.world import World

EXAMPLES = 40


@pytest.fixture
def world(
    request: pytest.FixtureRequest, database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    logging.disable(logging.CRITICAL)
    processes = getattr(request, "param", 2)
    world = World(database_uri, monkeypatch.setattr, processes)
    yield world
    world.close()
    logging.disable(logging.NOTSET)


def test_whatever_happens_the_promises_hold(world: World) -> None:
    check(world, examples=EXAMPLES, seed=1)


@pytest.mark.parametrize("put_back", [True, False])
@pytest.mark.parametrize(
    ("world", "fault"),
    [(FAULTS[name].processes, name) for name in FAULTS],
    ids=list(FAULTS),
    indirect=["world"],
)
def test_a_fault_that_is_put_back_is_found(
    world: World, monkeypatch: pytest.MonkeyPatch, fault: str, put_back: bool
) -> None:
    """In a story that shows it; without the fault the same story holds. `python -m tests.model --fault A2` finds such stories."""
    if put_back:
        FAULTS[fault].put_back(world, monkeypatch.setattr)
    Runs.world, Runs.found = world, []
    runs = Runs()
    with pytest.raises(AssertionError, match=FAULTS[fault].shows) if put_back else nullcontext():
        for happens in FAULTS[fault].story(runs):
            happens()
            runs.everything_holds()
    runs.teardown()
