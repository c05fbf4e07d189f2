"""Faults that were there once, to be put back: the model has to find each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from slackwater.runtime.execution.attempt import Attempt
from slackwater.runtime.fenced import settlement, settlements, statements, stores
from slackwater.runtime.process.worker import Worker
from tests.model.gates import Do
from tests.model.machine import Runs
from tests.model.world import Lose, World

Patch = Callable[[Any, str, Any], None]
"""`monkeypatch.setattr`."""
Story = Iterator[Callable[[], None]]
"""What happens, one after the other."""


def replaced(patch: Patch, module: Any, name: str, old: str, new: str) -> None:
    statement = getattr(module, name)
    assert old in statement, f"{name} has no {old!r} any more"
    patch(module, name, statement.replace(old, new))


def two_owners_with_one_fence(world: World, patch: Patch) -> None:
    """A failover forgets a claim; the next one takes the same number, and nothing else tells its owner apart."""
    world.run(world.database.execute("update model.epoch set stands_still = true"))
    replaced(patch, statements, "_OWNED", "and worker = %(worker)s ", "")
    replaced(patch, statements, "_OWNED_INPUT", "and worker = %(worker)s ", "")
    replaced(patch, stores, "_OWNED", "and r.worker = w.worker ", "")
    for name in ("_END", "_HAND_OVER"):
        replaced(patch, settlement, name, "and r.worker is not distinct from %(worker)s", "")
        replaced(patch, settlements, name, 'and r.worker is not distinct from a."worker"', "")
    statements.statement.cache_clear()
    stores.text.cache_clear()


def an_attempt_forgets_its_successor(world: World, patch: Patch) -> None:
    """The books of a process are kept by run: an attempt that ends late takes the next one at the same run out of them."""

    def forget(worker: Worker, attempt: Attempt) -> None:
        worker.live.pop(attempt.run.run_id, None)
        worker.attempts[:] = [a for a in worker.attempts if a.run.run_id != attempt.run.run_id]

    patch(Worker, "forget", forget)
    # Nothing keeps the process from claiming a run of which an attempt still unwinds here.
    patch(Worker, "_occupied", property(lambda worker: []))


def an_end_that_is_sent_again_is_shown_again(world: World, patch: Patch) -> None:
    """What follows the compare-and-set holds whenever the run has ended so, not only when it has ended just now."""
    now = "e.xmin = pg_current_xact_id_if_assigned()::xid"
    replaced(patch, settlement, "_THREAD", now, "e.fence = %(fence)s")


def a_claim_is_forgotten(runs: Runs) -> Story:
    yield partial(runs.admit, p=0, t=0, strategy="enqueue", mostly=False, stubborn=False, lose=Lose.NOTHING)
    yield runs.replicate
    yield partial(runs.claim, p=0, stubborn=False, lose=Lose.NOTHING)
    yield partial(runs.step, i=0, what=Do.GO_ON, lose=Lose.NOTHING)
    yield runs.fail_over
    yield partial(runs.claim, p=1, stubborn=False, lose=Lose.NOTHING)
    yield partial(runs.step, i=1, what=Do.GO_ON, lose=Lose.NOTHING)


def a_hand_over_is_answered_after_the_next_claim(runs: Runs) -> Story:
    yield partial(runs.admit, p=0, t=0, strategy="enqueue", mostly=True, stubborn=False, lose=Lose.NOTHING)
    yield partial(runs.drain, i=0, mostly=False, lose=Lose.SETTLEMENT)
    yield partial(runs.claim, p=0, stubborn=False, lose=Lose.NOTHING)
    yield partial(runs.answer_is_lost, i=0)


def an_end_is_sent_again_after_the_next_run(runs: Runs) -> Story:
    yield partial(runs.admit, p=0, t=0, strategy="enqueue", mostly=True, stubborn=False, lose=Lose.NOTHING)
    yield partial(runs.step, i=0, what=Do.END, lose=Lose.SETTLEMENT)
    yield partial(runs.admit, p=1, t=0, strategy="enqueue", mostly=True, stubborn=False, lose=Lose.NOTHING)
    yield partial(runs.step, i=0, what=Do.END, lose=Lose.NOTHING)
    yield partial(runs.answer_is_lost, i=0)


@dataclass(frozen=True)
class Fault:
    """How it is put back, what the model then says, and a story that shows it."""

    put_back: Callable[[World, Patch], None]
    shows: str
    story: Callable[[Runs], Story]
    only: Mapping[str, int]
    """What such stories take, and how often each: the search finds one within seconds, most times."""
    processes: int = 2


FAULTS = {
    "A2": Fault(
        two_owners_with_one_fence,
        "one id, two contents",
        a_claim_is_forgotten,
        {"claim": 4, "replicate": 2, "fail_over": 2},
    ),
    # The same process claims it again: there is only one.
    "A4": Fault(
        an_attempt_forgets_its_successor,
        "forgotten",
        a_hand_over_is_answered_after_the_next_claim,
        {"admit": 2, "step": 2, "drain": 6, "claim": 12, "answer_is_lost": 6},
        processes=1,
    ),
    "A6": Fault(
        an_end_that_is_sent_again_is_shown_again,
        "the thread shows",
        an_end_is_sent_again_after_the_next_run,
        {},
    ),
}
