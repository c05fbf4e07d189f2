"""Threads for what blocks: a graph's sync nodes, and nothing of ours.

A thread cannot be cancelled. So the pool knows which runs still have one: such a run is handed over last,
immediately before the process leaves, or its node would complete twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from threading import Lock
from typing import Any, TypeVar
from uuid import UUID

T = TypeVar("T")

MAX_THREADS = 64
"""asyncio's default (CPUs + 4) is so small that a few sleeping nodes stop everybody else's."""

current_run: ContextVar[UUID | None] = ContextVar("current_run", default=None)
"""The run on whose behalf the running code was started; LangGraph carries the context into its tasks."""


class NodeThreads(ThreadPoolExecutor):
    """The loop's default executor; counts the threads in flight of each run."""

    def __init__(self) -> None:
        super().__init__(MAX_THREADS, thread_name_prefix="node")
        self._busy: Counter[UUID] = Counter()
        self._lock = Lock()  # counted up in the loop, and down in the threads

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        run_id = current_run.get()
        future = super().submit(fn, *args, **kwargs)
        if run_id is not None:
            with self._lock:
                self._busy[run_id] += 1
            future.add_done_callback(lambda _: self._left(run_id))
        return future

    def _left(self, run_id: UUID) -> None:
        with self._lock:
            self._busy[run_id] -= 1
            if not self._busy[run_id]:
                del self._busy[run_id]

    def busy(self, run_id: UUID) -> bool:
        """Whether a thread still works for the run."""
        return self._busy[run_id] > 0
