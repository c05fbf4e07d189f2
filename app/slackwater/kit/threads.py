"""Threads for code that blocks, and may block for ever.

A thread cannot be cancelled. So nobody ever waits for one to end: neither asyncio, which gives the default executor five
minutes when its loop is closed, nor the interpreter, which joins what is no daemon.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Condition, Thread
from typing import Any, TypeVar

T = TypeVar("T")

MAX_LEFT = 64
"""So many threads that were left behind are replaced by new ones; more of them take the place of working ones."""

STUCK_SECONDS = 10.0
"""All threads are taken, and none has come back for so long: then whoever claims more only lets it wait here."""

IDLE_SECONDS = 60.0
"""A thread that has had nothing to do for so long ends."""


class _Call(Future[Any]):
    """Is its own future: one that it had would keep it, in a cycle, with all that its caller's context has."""

    def __init__(self, whose: Hashable, work: Callable[[], Any]) -> None:
        super().__init__()
        self.whose = whose
        self.left = False
        """Nobody waits for it any more."""
        self._work = work

    def __call__(self) -> None:
        if not self.set_running_or_notify_cancel():
            return
        try:
            result = self._work()
        except BaseException as error:
            self.set_exception(error)
            del self  # the traceback has this frame
        else:
            self.set_result(result)


class Threads:
    """At most `most` daemon threads, made when they are needed, of which no one has more than `share` at a time.

    `changed` is called, in any thread, when there are more or fewer of them at work.
    """

    def __init__(self, name: str, most: int, share: int, changed: Callable[[], None] = lambda: None) -> None:
        self._name, self._most, self._share = name, most, share
        self._tell = changed
        self._changed = Condition()
        self._waiting: OrderedDict[Hashable, deque[_Call]] = OrderedDict()
        self._queued = 0
        self._running: set[_Call] = set()
        self._busy: Counter[Hashable] = Counter()
        self._alive = 0
        self._made = 0
        self._closed = False
        self._moved_at = time.monotonic()
        """When a call has last begun or ended."""

    def submit(self, whose: Hashable, work: Callable[[], T]) -> Future[T]:
        """Call `work` in a thread, when its turn has come."""
        call = _Call(whose, work)
        with self._changed:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._busy[whose] += 1
            # The first to hear of its end: whoever awaits it may ask at once whether a thread is still busy.
            call.add_done_callback(self._ended)
            self._waiting.setdefault(whose, deque()).append(call)
            self._queued += 1
            self._staff()
        self._tell()
        return call

    def submit_last(self, whose: Hashable, work: Callable[[], T]) -> Future[T] | None:
        """The same for what only tidies up: None, and nothing is called, once they are closed, as the process ends."""
        try:
            return self.submit(whose, work)
        except RuntimeError:
            return None

    def busy(self, whose: Hashable) -> bool:
        """Whether a thread works, or will work, for it."""
        return self._busy[whose] > 0

    def leave(self, whose: Hashable) -> int:
        """It is over. How many threads still work for it, and are replaced."""
        with self._changed:
            for call in list(self._waiting.get(whose, ())):
                call.cancel()
            calls = [call for call in self._running if call.whose == whose and not call.left]
            for call in calls:
                call.left = True
            self._staff()
        self._tell()
        return len(calls)

    @property
    def left(self) -> int:
        """Threads that still work for what is over."""
        return sum(call.left for call in tuple(self._running))

    @property
    def working(self) -> int:
        """Threads that are taken."""
        return len(self._running) - min(self.left, MAX_LEFT)

    @property
    def stuck(self) -> bool:
        """Whether all of them are taken, and nothing moves."""
        return self.working >= self._most and time.monotonic() - self._moved_at > STUCK_SECONDS

    def close(self) -> None:
        """Take nothing more. What is running goes on, and nobody waits for it."""
        with self._changed:
            self._closed = True
            for call in [call for calls in self._waiting.values() for call in calls]:
                call.cancel()
            self._changed.notify_all()

    def _staff(self) -> None:
        """Wake or make a thread for each call that waits."""
        while self._queued > self._alive - len(self._running) and self._alive < self._most + min(
            self.left, MAX_LEFT
        ):
            self._alive += 1
            self._made += 1
            Thread(target=self._work, name=f"{self._name}-{self._made}", daemon=True).start()
        self._changed.notify(self._queued)

    def _work(self) -> None:
        while call := self._next():
            call()
            with self._changed:
                self._running.discard(call)
                self._changed.notify()
            self._tell()
            del call  # an idle thread must not keep alive what its last node has returned

    def _next(self) -> _Call | None:
        """Wait for the next call; None when this thread is to end."""
        with self._changed:
            in_time = True
            while True:
                if self.working < self._most and (call := self._take()):
                    self._running.add(call)
                    self._moved_at = time.monotonic()
                    return call
                if self._closed or not in_time:
                    self._alive -= 1
                    return None
                in_time = self._changed.wait(IDLE_SECONDS)

    def _take(self) -> _Call | None:
        """The next call, in turns between those who wait."""
        running = Counter(call.whose for call in self._running)
        for whose, calls in self._waiting.items():
            if running[whose] < self._share:
                call = calls.popleft()
                self._queued -= 1
                if calls:
                    self._waiting.move_to_end(whose)
                else:
                    del self._waiting[whose]
                return call
        return None

    def _ended(self, call: Any) -> None:
        with self._changed:
            self._moved_at = time.monotonic()
            self._busy[call.whose] -= 1
            if not self._busy[call.whose]:
                del self._busy[call.whose]
            waiting = self._waiting.get(call.whose)
            if waiting is not None and call in waiting:  # cancelled before its turn
                waiting.remove(call)
                self._queued -= 1
                if not waiting:
                    del self._waiting[call.whose]
