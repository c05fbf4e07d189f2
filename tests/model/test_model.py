"""The model in CI: so many examples hold, and it finds the faults that it was made for when they are put back."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.model.faults import FAULTS
from tests.model.machine import Runs, check
from tests.model.world import World

EXAMPLES = 50


@pytest.fixture
def world(database_uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    logging.disable(logging.CRITICAL)
    world = World(database_uri, monkeypatch.setattr)
    yield world
    world.close()
    logging.disable(logging.NOTSET)


def test_whatever_happens_the_promises_hold(world: World) -> None:
    check(world, examples=EXAMPLES, seed=1)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_is_put_back_is_found(world: World, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    FAULTS[fault].put_back(world, monkeypatch.setattr)
    # Hypothesis tries again what has failed, and complains if what a fault has left behind makes it come out otherwise.
    with pytest.raises(BaseException):  # noqa: B017
        check(world, examples=150, seed=1, only=FAULTS[fault].only)
    assert FAULTS[fault].shows in str(Runs.found[0].args), Runs.found[0]
