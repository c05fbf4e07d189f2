"""Faults that were there once, to be put back: the model has to find each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from slackwater.runtime.execution.attempt import Attempt
from slackwater.runtime.fenced import settlement, settlements, statements, stores
from slackwater.runtime.process.worker import Worker
from tests.model.world import World

Patch = Callable[[Any, str, Any], None]
"""`monkeypatch.setattr`."""


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


@dataclass(frozen=True)
class Fault:
    """How it is put back, and what the model then says."""

    put_back: Callable[[World, Patch], None]
    shows: str
    only: Mapping[str, int]
    """What it takes, and how often each, so that it is found within seconds. Whether all of the model finds it, and when,
    is not promised."""
    processes: int = 2


FAULTS = {
    "A2": Fault(
        two_owners_with_one_fence, "one id, two contents", {"claim": 4, "replicate": 2, "fail_over": 2}
    ),
    # A hand-over whose answer is late, and its run claimed again meanwhile, by the same process: there is only one.
    "A4": Fault(
        an_attempt_forgets_its_successor,
        "forgotten",
        {"admit": 2, "step": 2, "drain": 6, "claim": 12, "answer_is_lost": 6},
        processes=1,
    ),
    "A6": Fault(an_end_that_is_sent_again_is_shown_again, "the thread shows", {}),
}
