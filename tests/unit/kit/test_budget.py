"""One deadline, and what is cut from its end."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from slackwater.kit.budget import Budget


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """`at(seconds)`: so late it is."""

    def at(seconds: float) -> None:
        monkeypatch.setattr(time, "monotonic", lambda: 100.0 + seconds)

    at(0)
    return at


def test_the_phases_end_one_after_the_other_at_one_deadline(at: Callable[[float], None]) -> None:
    budget = Budget.of(10, drain_reserve=2, hard_reserve=0.5)
    assert (budget.left_to_ask(), budget.left_to_insist(), budget.left()) == (8, 9.5, 10)
    assert (budget.total_ms(), budget.spent_ms()) == (10_000, 0)
    at(9)
    assert (budget.left_to_ask(), budget.left_to_insist(), budget.left()) == (0, 0.5, 1)
    assert (budget.total_ms(), budget.spent_ms()) == (10_000, 9000)


@pytest.mark.parametrize("seconds", [0.5, 0.05, 2.0])
def test_a_window_shorter_than_its_reserves_still_has_all_three_phases(seconds: float) -> None:
    budget = Budget.of(seconds, drain_reserve=2, hard_reserve=0.5)
    assert 0 < budget.left_to_ask() < budget.left_to_insist() < budget.left()
    assert budget.hard_reserve / budget.drain_reserve == pytest.approx(0.25)


@pytest.mark.parametrize("seconds", [0, -3])
def test_no_time_is_no_time_in_every_phase(seconds: float) -> None:
    budget = Budget.of(seconds, drain_reserve=2, hard_reserve=0.5)
    assert budget.left() == budget.left_to_ask() == budget.left_to_insist() == 0


def test_nothing_is_ever_left_after_the_deadline(at: Callable[[float], None]) -> None:
    budget = Budget.of(5, drain_reserve=2, hard_reserve=0.5)
    at(10)
    assert budget.left() == budget.left_to_ask() == budget.left_to_insist() == 0


@pytest.mark.usefixtures("at")
def test_without_reserves_everything_is_for_asking() -> None:
    budget = Budget.of(3, drain_reserve=0, hard_reserve=0)
    assert budget.left_to_ask() == 3


@pytest.mark.usefixtures("at")
def test_what_is_not_ours_leaves_something_for_the_rest() -> None:
    early = Budget.of(10, drain_reserve=2, hard_reserve=0.5)
    late = Budget.of(0.4, drain_reserve=0.3, hard_reserve=0.25)

    assert early.left_to_leave() == 9.5
    assert late.left_to_leave() == pytest.approx(0.2)
    assert Budget.of(0, drain_reserve=2, hard_reserve=0.5).left_to_leave() == 0
