"""The model in CI: so many examples hold, and it finds the faults that it was made for when they are put back."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.model.faults import FAULTS
from tests.model.machine import Runs, check
from tests.model.world import Lose, World

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


@pytest.mark.parametrize(
    ("world", "fault"),
    [(FAULTS[name].processes, name) for name in FAULTS],
    ids=list(FAULTS),
    indirect=["world"],
)
def test_a_fault_that_is_put_back_is_found(world: World, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    FAULTS[fault].put_back(world, monkeypatch.setattr)
    # Hypothesis tries again what has failed, and complains if what a fault has left behind makes it come out otherwise.
    with pytest.raises(BaseException):  # noqa: B017
        check(world, examples=150, seed=1, only=FAULTS[fault].only)
    assert FAULTS[fault].shows in str(Runs.found[0].args), Runs.found[0]


@pytest.mark.parametrize("put_back", [True, False])
def test_an_attempt_that_forgets_its_successor_is_found(
    world: World, monkeypatch: pytest.MonkeyPatch, put_back: bool
) -> None:
    """A story of the model's, told, and the same without the fault."""
    if put_back:
        FAULTS["A4"].put_back(world, monkeypatch.setattr)
    Runs.world, Runs.found = world, []
    runs = Runs()
    runs.admit(p=0, t=0, strategy="enqueue", mostly=True, stubborn=False, lose=Lose.NOTHING)
    runs.everything_holds()
    runs.drain(i=0, mostly=False, lose=Lose.SETTLEMENT)
    runs.everything_holds()
    runs.claim(p=0, stubborn=False, lose=Lose.NOTHING)
    runs.everything_holds()
    runs.answer_is_lost(i=0)
    if put_back:
        with pytest.raises(AssertionError, match=FAULTS["A4"].shows):
            runs.everything_holds()
    else:
        runs.everything_holds()
    runs.teardown()
