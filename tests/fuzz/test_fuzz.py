"""The calls of CI: so many, the same ones each time."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fuzz.calls import CALLS
from tests.fuzz.machine import check
from tests.fuzz.world import World

pytestmark = pytest.mark.patient

SEED = 1
CALLS_IN_CI = 10_000


@pytest.fixture
def world(database_uri: str, tmp_path: Path) -> Iterator[World]:
    logging.disable(logging.CRITICAL)
    world = World(database_uri, tmp_path, "cafe")
    yield world
    world.close()
    logging.disable(logging.NOTSET)
    assert not world.fleet.complaints


def test_nothing_of_anothers_comes_back_and_nothing_of_anothers_is_changed(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    """What fails is found again, and made short, by `python -m tests.fuzz --seed` with the number that is in its notes."""
    check(world, examples=3, seed=SEED, stop=signal.SIGTERM)
    check(world, examples=3, seed=SEED + 1, stop=signal.SIGKILL)
    seed = SEED + 2
    while world.calls["all"] < CALLS_IN_CI:
        check(world, examples=12, seed=seed)
        seed += 1
    figures = world.figures()
    record_property("figure", f"{figures}")
    assert not CALLS.keys() - world.calls.keys()
    assert not [name for name, number in figures.items() if number == 0]
