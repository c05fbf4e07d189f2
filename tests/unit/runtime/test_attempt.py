"""How far an attempt has come, and what can no longer change it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from slackwater.runtime.execution.attempt import Attempt
from slackwater.runtime.queue.states import AttemptState, Outcome, StopWish

LEGAL = {
    (AttemptState.CLAIMED, AttemptState.RUNNING),
    (AttemptState.CLAIMED, AttemptState.GIVEN_UP),
    (AttemptState.CLAIMED, AttemptState.DEFERRED),
    (AttemptState.RUNNING, AttemptState.ENDED),
    (AttemptState.RUNNING, AttemptState.GIVEN_UP),
    (AttemptState.RUNNING, AttemptState.DEFERRED),
    (AttemptState.ENDED, AttemptState.DEFERRED),
}


class Asked:
    """Instead of its control."""

    def request_drain(self, reason: str) -> None: ...


class Task:
    """Instead of its task."""

    cancelled = 0

    def cancel(self) -> None:
        self.cancelled += 1


@pytest.fixture
def attempt() -> Attempt:
    made = Attempt(*cast("Any", (None, None, None, None, None, Asked(), None)))
    made.task = cast("asyncio.Task[None]", Task())
    return made


def cancellations(attempt: Attempt) -> int:
    return cast("Task", attempt.task).cancelled


@pytest.mark.parametrize("state", AttemptState)
@pytest.mark.parametrize("wanted", AttemptState)
def test_a_state_follows_another_or_that_one_stands(state: AttemptState, wanted: AttemptState) -> None:
    assert state.then(wanted) is (wanted if (state, wanted) in LEGAL else state)


def test_an_attempt_that_has_not_had_its_first_turn_is_not_cancelled(attempt: Attempt) -> None:
    """It would never run at all, not even to settle."""
    attempt.stop(StopWish.DRAIN)

    assert (attempt.wish, cancellations(attempt)) == (StopWish.DRAIN, 0)


def test_an_attempt_whose_graph_runs_is_cancelled_once(attempt: Attempt) -> None:
    attempt.begin()
    attempt.stop(StopWish.DRAIN)
    attempt.stop(StopWish.CANCEL)

    assert (attempt.wish, cancellations(attempt)) == (StopWish.DRAIN, 1)


def test_the_settlement_of_an_attempt_is_not_cancelled(attempt: Attempt) -> None:
    attempt.begin()
    attempt.end(Outcome.FINISHED)
    attempt.stop(StopWish.DRAIN)

    assert (attempt.wish, attempt.outcome, cancellations(attempt)) == (None, Outcome.FINISHED, 0)


@pytest.mark.parametrize("begun", [True, False])
def test_what_nodes_do_after_they_were_given_up_changes_nothing(attempt: Attempt, *, begun: bool) -> None:
    if begun:
        attempt.begin()
    attempt.stop(StopWish.CANCEL)
    attempt.end_without_nodes(StopWish.CANCEL)
    attempt.begin()
    attempt.end(Outcome.FINISHED)

    assert (attempt.state, attempt.outcome) == (AttemptState.GIVEN_UP, Outcome.CANCELLED)
    assert attempt.stray is attempt.task


def test_an_attempt_that_was_deferred_stays_so_if_its_node_ends_after_all(attempt: Attempt) -> None:
    attempt.begin()
    attempt.stop(StopWish.DRAIN)
    attempt.defer()
    assert attempt.outcome is Outcome.CUT
    attempt.end(Outcome.FINISHED)

    assert (attempt.deferred, attempt.outcome) == (True, Outcome.FINISHED)


def test_a_settlement_that_waits_for_a_thread_is_deferred(attempt: Attempt) -> None:
    attempt.begin()
    attempt.end(Outcome.CUT)
    attempt.defer()

    assert attempt.state is AttemptState.DEFERRED
