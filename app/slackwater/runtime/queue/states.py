"""The states of runs, attempts and the process."""

from __future__ import annotations

from enum import Enum, StrEnum


class RunStatus(StrEnum):
    """What the API shows."""

    PENDING = "pending"
    """Waits for its first claim, or was handed over and waits for the next one."""
    RUNNING = "running"
    """A process holds its lease."""
    SUCCESS = "success"
    """The graph ended, or stopped to ask a person (the thread says which)."""
    ERROR = "error"
    TIMEOUT = "timeout"
    """It has been worked on for as long as a run may be, in all its attempts together."""
    INTERRUPTED = "interrupted"
    """Cancelled."""


TERMINAL = frozenset({RunStatus.SUCCESS, RunStatus.ERROR, RunStatus.TIMEOUT, RunStatus.INTERRUPTED})

ACTIVE = f"('{RunStatus.PENDING}', '{RunStatus.RUNNING}')"
"""In SQL, after `in`: the statuses of a run that has not ended."""

STATELESS_LINGER_SECONDS = 120
"""A stateless run stays readable for so long: the SDK takes a 404 as a normal end."""

KEYS_KEPT = "interval '24 hours'"
"""In SQL: how long an Idempotency-Key names the run that was made with it."""


class Phase(Enum):
    """The life of the process."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    """Claims nothing more; new runs are admitted for others."""
    CLOSED = "closed"
    """States are being written: requests get 503."""


class StopWish(Enum):
    """Why an attempt is being stopped from outside. The first one wins."""

    CANCEL = "cancel"
    """A user's wish, or a newer run's (`multitask_strategy`)."""
    TIMEOUT = "timeout"
    """The run exceeded its time limit: SLACKWATER_RUN_TIMEOUT_SECONDS."""
    DRAIN = "drain"
    """The deadline of a drain has come while a node was still running."""
    LEASE_LOST = "lease_lost"
    """This process can no longer prove that the run is its own."""
    FORGOTTEN = "forgotten"
    """The database has failed over and lacks what this attempt has stored: it goes on from what is there, elsewhere."""


class Outcome(Enum):
    """What really happened to an attempt. Set once, with no await between the graph's end and it."""

    FINISHED = "finished"
    """The graph ended or interrupted itself."""
    FAILED = "failed"
    """A node raised."""
    DRAINED = "drained"
    """Stopped at a superstep boundary: goes on elsewhere, no node runs twice."""
    CUT = "cut"
    """Cancelled inside a superstep, at a drain's deadline or because its past was forgotten: that superstep runs again."""
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    """Cancelled when the run's time was over."""
    LOST = "lost"
    """The lease went: nothing more may be written by this process."""


class AttemptState(Enum):
    """How far an attempt has come in this process. It never goes back; `then` decides where it may go."""

    CLAIMED = "claimed"
    """Its task has not had its first turn. A task that is cancelled before never runs at all, not even to settle."""
    RUNNING = "running"
    """Its graph is being opened or driven: a cancellation reaches it."""
    ENDED = "ended"
    """It has its outcome. What follows is only its settlement, which nobody may cut."""
    GIVEN_UP = "given_up"
    """Ended without its nodes, which ignore their cancellation: a task of its own settles it, and what they still do is
    fenced off."""
    DEFERRED = "deferred"
    """A node of it cannot be stopped: handed over last, immediately before the process leaves."""

    def then(self, wanted: AttemptState) -> AttemptState:
        """`wanted`, if it may follow; else this one, which stands whatever an attempt still does that is out of our hands."""
        return wanted if wanted in _FOLLOWING[self] else self


_FOLLOWING = {
    AttemptState.CLAIMED: {AttemptState.RUNNING, AttemptState.GIVEN_UP, AttemptState.DEFERRED},
    AttemptState.RUNNING: {AttemptState.ENDED, AttemptState.GIVEN_UP, AttemptState.DEFERRED},
    AttemptState.ENDED: {AttemptState.DEFERRED},
    AttemptState.GIVEN_UP: set[AttemptState](),
    AttemptState.DEFERRED: set[AttemptState](),
}


OUTCOME_OF = {
    StopWish.CANCEL: Outcome.CANCELLED,
    StopWish.TIMEOUT: Outcome.TIMED_OUT,
    StopWish.DRAIN: Outcome.CUT,
    StopWish.LEASE_LOST: Outcome.LOST,
    StopWish.FORGOTTEN: Outcome.CUT,
}
"""What an attempt has come to that was stopped from outside, and did not end before."""


class Stopped(StrEnum):
    """How the previous attempt of a run stopped, as its row says."""

    DRAINED = "drained"
    CUT = "cut"
    LOST = "lost"
