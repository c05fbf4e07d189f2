"""Whether an event loop gives its tasks their turns, and, if it does not, whose code holds it up.

Looked at from another thread, which asks it for a sign of life and waits for none.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any
from uuid import UUID

from slackwater.runtime.execution.attempt import Attempt
from slackwater.runtime.execution.node_threads import current_run

log = logging.getLogger(__name__)

LATE_SECONDS = 2.0
"""An event loop that has not had a turn for so long is blocked. Nothing of ours takes a tenth of it."""

LOOP_LEASES = 3
"""For so many leases those of a blocked event loop are renewed. A node that computes for minutes gets through; one that
never ends does not keep its neighbours for ever, who go on elsewhere."""


class LoopWatch:
    """Made in the loop; everything but `_answer` is for the one thread that looks."""

    def __init__(self, lease_seconds: Callable[[], float]) -> None:
        self.loop = asyncio.get_running_loop()
        self.dead = False
        """Blocked for so long that its runs are left to other processes."""
        self.stalled_by: UUID | None = None
        """The run that blocks it."""
        self._thread_id = threading.get_ident()
        self._lease_seconds = lease_seconds
        # Set by one side and read by the other: it is one reference, which needs no lock.
        self._asked: float | None = None
        """When it was asked for a sign of life that it has not given yet."""
        self._seen: UUID | None = None
        self._said = False

    @property
    def late_seconds(self) -> float:
        """Without a turn for so long, it is blocked."""
        return min(LATE_SECONDS, self._lease_seconds() / 3)

    def tell(self, what: Callable[..., object], *arguments: object) -> None:
        """Have it called in the loop."""
        with suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(what, *arguments)

    def forgive(self) -> None:
        """All of the process stood still: how late it is says nothing."""
        self._asked = None

    def rest(self) -> None:
        """Nothing of it matters to anybody until it is looked at again."""
        self._asked = self.stalled_by = self._seen = None
        self._said = self.dead = False

    def look(self) -> bool:
        """Look at it; whether there is something new to be said of `stalled_by`."""
        now, asked = time.monotonic(), self._asked
        if asked is None:
            self._asked = now
            self.tell(self._answer)
            news = self.stalled_by is not None  # the rows still say whose fault it was
            self.stalled_by = self._seen = None
            self._said = self.dead = False
            return news
        late = now - asked
        if late < self.late_seconds / 2:
            return False
        run_id, node = what_runs_in(self.loop, self._thread_id)
        # Seen twice: a loop that is merely slow is in some run's code at any time.
        culprit, self._seen = (run_id if run_id == self._seen else None), run_id
        if late <= self.late_seconds:
            return False
        if not self._said:
            self._said = True
            self._say_blocked(late, run_id, node)
        if late > LOOP_LEASES * self._lease_seconds() and not self.dead:
            self.dead = True
            self._say_dead(late, run_id, node)
        news = culprit != self.stalled_by  # the process may be killed for it at any moment
        self.stalled_by = culprit
        return news

    def _answer(self) -> None:
        self._asked = None

    def _say_blocked(self, late: float, run_id: UUID | None, node: str | None) -> None:
        log.warning(
            "the event loop has been blocked for %.1f s%s: nothing else in this process makes progress. Move "
            "blocking code to a thread (nodes that are not coroutines have one), or await it",
            late,
            f" by node {node}" if node else "",
            extra={"event": "worker.loop.blocked", "run_id": str(run_id) if run_id else None, "node": node},
        )

    def _say_dead(self, late: float, run_id: UUID | None, node: str | None) -> None:
        log.error(
            "the event loop has been blocked for %.0f s: its runs are left to other processes",
            late,
            extra={"event": "worker.loop.dead", "run_id": str(run_id) if run_id else None, "node": node},
        )


def what_runs_in(loop: asyncio.AbstractEventLoop, thread_id: int) -> tuple[UUID | None, str | None]:
    """The run, and its node, whose code the loop's thread is executing at this moment.

    Read from the frames of the thread and, from Python 3.12 on, the context of its task: tasks that a node has made
    itself are the run's, too.
    """
    run_id, node = None, None
    frame: FrameType | None = sys._current_frames().get(thread_id)
    while frame is not None and run_id is None:
        if str(frame.f_globals.get("__name__")).startswith("langgraph."):
            config: Any = frame.f_locals.get("config")
            with suppress(Exception):  # another one's local variable
                run_id, node = UUID(config["metadata"]["run_id"]), config["metadata"].get("langgraph_node")
        elif isinstance(attempt := frame.f_locals.get("attempt"), Attempt):
            run_id = attempt.run.run_id
        frame = frame.f_back
    with suppress(Exception):
        context = asyncio.current_task(loop).get_context()  # type: ignore[union-attr]
        run_id = run_id or context.get(current_run)
    return run_id, node
