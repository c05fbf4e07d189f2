"""One attempt of one run: from its claim to its settlement, and the handles by which others stop it."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable, Mapping
from contextvars import Context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from slackwater.runtime.events.journal import Ending, Journal
from slackwater.runtime.execution.node_tasks import NodeTasks
from slackwater.runtime.fenced.writer import Writer
from slackwater.runtime.queue.cancel import CancelWish
from slackwater.runtime.queue.claims import ClaimedRun
from slackwater.runtime.queue.lease import Lease
from slackwater.runtime.queue.states import OUTCOME_OF, AttemptState, Outcome, StopWish

if TYPE_CHECKING:
    from slackwater.runtime.execution.checkpointer import RunSaver
    from slackwater.runtime.execution.control import Control


UNWIND_SECONDS = {
    StopWish.CANCEL: 5.0,
    StopWish.TIMEOUT: 5.0,
    StopWish.LEASE_LOST: 30.0,
    StopWish.FORGOTTEN: 5.0,
}
"""How long the nodes of a run may take to end once they are cancelled. Then it is given up: ended without them.

Nothing here waits for the end of a lost run. A drain has its own limits."""


@dataclass(slots=True, weakref_slot=True, eq=False)
class Attempt:
    """A run that this process is working on."""

    run: ClaimedRun
    saver: RunSaver
    writer: Writer
    lease: Lease
    journal: Journal
    control: Control
    node_tasks: NodeTasks
    state: AttemptState = AttemptState.CLAIMED
    task: asyncio.Task[None] | None = None
    """The task that executes it; it ends with the settlement."""
    stray: asyncio.Task[None] | None = None
    """Its former task, if it was given up because a node ignores its cancellation."""
    give_up: Callable[[Attempt], None] | None = None
    """Called when its nodes do not end."""
    scope: Context | None = None
    """The context variables shared by its task, its factory and its nodes."""
    drain_reason: str = ""
    """Why it was asked to stop at its next boundary; recorded in its row at the hand-over."""
    wish: StopWish | None = None
    cancel_wish: CancelWish | None = None
    outcome: Outcome | None = None
    settled: str | None = None
    """The status that was written to its row; None if it is left until its lease expires."""
    timeout_at: float = float("inf")
    """When the run exceeds its time limit, in seconds on the monotonic clock."""
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None
    leftovers: list[asyncio.Task[object]] = field(default_factory=list)
    """LangGraph's own cleanup tasks that a cancellation has left running."""

    def ask_to_drain(self, reason: str) -> None:
        """Stop at the next superstep boundary. The first reason stands."""
        self.drain_reason = self.drain_reason or reason
        self.control.request_drain(reason)

    def stop(self, wish: StopWish, cancel: CancelWish | None = None) -> None:
        """Cancel the graph, once: a second cancellation would interrupt LangGraph's cleanup. The first wish wins."""
        if wish is StopWish.LEASE_LOST:
            self.writer.abandon()
            # Readers need not wait until its nodes have unwound.
            self.journal.close(Ending.GONE_ON)
        if self.wish is StopWish.CANCEL and cancel is not None and cancel.deletes and self.outcome is None:
            self.cancel_wish = cancel
        if self.wish is not None or self.outcome is not None:
            return
        self.wish, self.cancel_wish = wish, cancel
        # A node that swallows the cancellation must not take the run into its next superstep.
        self.control.request_drain(wish.value)
        if self.give_up is not None and wish in UNWIND_SECONDS:
            asyncio.get_running_loop().call_later(UNWIND_SECONDS[wish], self.give_up, self)
        if self.task is not None and self.state is AttemptState.RUNNING:
            self.task.cancel()

    def stopping(self, wish: StopWish) -> Callable[[], None]:
        """What stops it, for those that it has itself.

        They may not keep it alive: through a cycle, everything that a run had would stay until the garbage collector
        looks through its oldest generation.
        """
        weak = weakref.ref(self)

        def stop() -> None:
            if (attempt := weak()) is not None:
                attempt.stop(wish)

        return stop

    # Calls of its nodes

    @property
    def owner(self) -> str:
        return self.run.owner

    @property
    def user(self) -> Mapping[str, Any] | None:
        user: Mapping[str, Any] | None = self.run.kwargs.get("user")
        return user

    @property
    def may_call(self) -> bool:
        return self.outcome is None and self.wish is not StopWish.LEASE_LOST and not self.lease.lost

    @property
    def stops(self) -> bool:
        return bool(self.drain_reason)

    # State

    def begin(self) -> None:
        """Its task has started."""
        self.state = self.state.then(AttemptState.RUNNING)

    def end(self, outcome: Outcome) -> None:
        """The graph has ended with this outcome, unless the attempt was given up before."""
        self.state = self.state.then(AttemptState.ENDED)
        if not self.given_up:
            self.outcome = outcome

    def end_without_nodes(self, wish: StopWish) -> None:
        """It was asked to stop and its nodes do not end: it ends as if they had."""
        self.state = self.state.then(AttemptState.GIVEN_UP)
        self.outcome, self.stray = OUTCOME_OF[wish], self.task

    def defer(self) -> None:
        """It was cut, and is handed over last, when the process has nothing else left to do."""
        self.state = self.state.then(AttemptState.DEFERRED)
        self.outcome = Outcome.CUT

    @property
    def given_up(self) -> bool:
        return self.state is AttemptState.GIVEN_UP

    @property
    def deferred(self) -> bool:
        return self.state is AttemptState.DEFERRED

    @property
    def took_ms(self) -> float:
        return ((self.ended or time.monotonic()) - self.started) * 1000
