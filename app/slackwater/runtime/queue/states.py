"""The states of runs, attempts and the process."""

from __future__ import annotations

from enum import Enum, StrEnum


class RunStatus(StrEnum):
    """The status of a run in the API."""

    PENDING = "pending"
    """Waits for its first claim, or was handed over and waits for the next one."""
    RUNNING = "running"
    """A process holds its lease."""
    SUCCESS = "success"
    """The graph ended, or stopped at an interrupt (the thread says which)."""
    ERROR = "error"
    TIMEOUT = "timeout"
    """All attempts together took as long as a run may take."""
    INTERRUPTED = "interrupted"
    """Cancelled."""


TERMINAL = frozenset({RunStatus.SUCCESS, RunStatus.ERROR, RunStatus.TIMEOUT, RunStatus.INTERRUPTED})

ACTIVE = f"('{RunStatus.PENDING}', '{RunStatus.RUNNING}')"
"""SQL for use after `in`: the statuses of a run that has not ended."""

STATELESS_LINGER_SECONDS = 120
"""How long a stateless run stays readable after its end: the SDK takes a 404 for a normal end."""

KEYS_KEPT = "interval '24 hours'"
"""SQL: how long an Idempotency-Key stands for the run that was created with it."""


class Phase(Enum):
    """The phases in the life of a process."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    """Claims nothing more; new runs are admitted for others."""
    CLOSED = "closed"
    """States are being written: requests get 503."""


class StopWish(Enum):
    """Why an attempt is stopped from outside. The first wish wins."""

    CANCEL = "cancel"
    """A user cancelled the run, or a newer run displaces it (`multitask_strategy`)."""
    TIMEOUT = "timeout"
    """The run exceeded its time limit: SLACKWATER_RUN_TIMEOUT_SECONDS."""
    DRAIN = "drain"
    """A drain reached its deadline while a node was running."""
    LEASE_LOST = "lease_lost"
    """This process can no longer prove that it owns the run."""
    FORGOTTEN = "forgotten"
    """A failover lost writes of this attempt: the run continues from what is stored, elsewhere."""


class Outcome(Enum):
    """What really happened to an attempt. Set once, without an await after the graph's end."""

    FINISHED = "finished"
    """The graph ended, or stopped at an interrupt."""
    FAILED = "failed"
    """A node raised."""
    DRAINED = "drained"
    """Stopped at a superstep boundary: the run continues elsewhere, and no node runs twice."""
    CUT = "cut"
    """Cancelled inside a superstep, at a drain's deadline or after a failover: that superstep runs again."""
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    """Cancelled when the run reached its time limit."""
    LOST = "lost"
    """The lease is gone: this process must not write any more."""


class AttemptState(Enum):
    """The state of an attempt in this process. It never goes back; `then` has the transitions."""

    CLAIMED = "claimed"
    """Its task has not started. A task that is cancelled before that never runs at all, not even to settle."""
    RUNNING = "running"
    """Its graph is being opened or driven: a cancellation reaches it."""
    ENDED = "ended"
    """It has its outcome. Only the settlement follows, which must not be cancelled."""
    GIVEN_UP = "given_up"
    """Ended although its nodes ignore their cancellation: a separate task settles it, and what they still do is fenced
    off."""
    DEFERRED = "deferred"
    """A node cannot be stopped: the run is handed over last, immediately before the process leaves."""

    def then(self, wanted: AttemptState) -> AttemptState:
        """`wanted` if that transition is allowed, else the state unchanged."""
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
"""The outcome of an attempt that was stopped from outside before it ended."""


class Stopped(StrEnum):
    """How the previous attempt of a run stopped, as stored in its row."""

    DRAINED = "drained"
    CUT = "cut"
    LOST = "lost"
