"""Threads for what blocks: a graph's sync nodes, name resolution, and nothing of ours.

A thread cannot be cancelled. So the pool knows which runs still have one: such a run is handed over last, immediately
before the process leaves, or its node would complete twice. And nobody ever waits for a thread to end: neither asyncio,
which gives the default executor five minutes when its loop is closed, nor the interpreter, which joins what is no daemon.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, TypeVar
from uuid import UUID

from slackwater.kit.threads import Threads
from slackwater.telemetry import metrics
from slackwater.telemetry.metrics import Metric

T = TypeVar("T")

MAX_THREADS = 64
"""asyncio's default (CPUs + 4) is so small that a few sleeping nodes stop everybody else's."""

MAX_THREADS_PER_RUN = MAX_THREADS // 2
"""However wide a run fans out, others find a thread."""

MAX_LOOKUPS = 8
"""Names that are resolved at once: for us, and as many for nodes."""

current_run: ContextVar[UUID | None] = ContextVar("current_run", default=None)
"""The run on whose behalf the running code was started; LangGraph carries the context into its tasks."""


class NodeThreads(ThreadPoolExecutor):
    """The loop's default executor; counts the threads in flight of each run.

    asyncio resolves names in it (`getaddrinfo`, with which psycopg begins each connection): that must not wait behind
    nodes, nor behind names that nodes ask for.
    """

    def __init__(self) -> None:
        super().__init__(1)  # asyncio takes no other kind; it starts no thread of its own
        self._nodes = Threads("node", MAX_THREADS, MAX_THREADS_PER_RUN, self._count)
        self._lookups = {ours: Threads("lookup", MAX_LOOKUPS, MAX_LOOKUPS) for ours in (True, False)}

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        run_id = current_run.get()
        if _resolves(fn):
            return self._lookups[run_id is None].submit(None, lambda: fn(*args, **kwargs))
        return self._nodes.submit(run_id, lambda: fn(*args, **kwargs))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End, without waiting for what is running."""
        for threads in (self._nodes, *self._lookups.values()):
            threads.close()

    def busy(self, run_id: UUID) -> bool:
        """Whether a thread still works for the run."""
        return self._nodes.busy(run_id)

    async def idle(self, run_id: UUID, timeout: float) -> bool:
        """Wait, `timeout` seconds at most, until no thread works for the run; whether none does."""
        until = time.monotonic() + timeout
        while self.busy(run_id) and time.monotonic() < until:  # noqa: ASYNC110 - a thread tells nobody of its end
            await asyncio.sleep(0.05)
        return not self.busy(run_id)

    def leave(self, run_id: UUID) -> int:
        """The run is over here; how many threads still work for it."""
        return self._nodes.leave(run_id) if self.busy(run_id) else 0

    @property
    def left(self) -> int:
        """Threads that work for runs that are over."""
        return self._nodes.left

    @property
    def stuck(self) -> bool:
        """Whether no thread is free, and none has become free for some time."""
        return self._nodes.stuck

    def _count(self) -> None:
        metrics.level(Metric.THREADS_BUSY, self._nodes.working)
        metrics.level(Metric.THREADS_LEFT, self._nodes.left)


def _resolves(function: Callable[..., Any]) -> bool:
    """Whether it is asyncio that asks for a name or an address."""
    return (
        function is socket.getaddrinfo
        or function is socket.getnameinfo
        or getattr(function, "__name__", "") == "_getaddrinfo_debug"
    )
