"""SIGTERM and SIGINT: drain first, with the listener still open, and only then what the server would have done.

Under stock uvicorn the listeners close 0.1 s after SIGTERM, and `lifespan.shutdown` comes only when every connection has
closed: one open stream would postpone the drain until SIGKILL. So the handlers that the server has installed
are wrapped, and called when the drain is over.

While the process still starts nothing has to be drained: then it leaves at once, however long an import takes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from types import FrameType
from typing import Any

from slackwater import telemetry
from slackwater.errors import ExitCode

log = logging.getLogger(__name__)

HANDLED = (signal.SIGTERM, signal.SIGINT)

START_SECONDS = 1.0
"""How long a start that is given up may take to let go of what it has opened."""


def leave_at_once() -> None:
    """Until the server has handlers of its own SIGTERM ends the process: as the first of a container it has no default."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(ExitCode.CLEAN))


class StopSignals:
    """Wraps the installed handlers. Entered in the loop's thread, which has to be the main thread to matter.

    Its task is the one that starts; once it has, it says with `started` how to drain.
    """

    def __init__(self) -> None:
        self._drain: Callable[[str], Coroutine[Any, Any, object]] | None = None
        self._given_up = False
        self._loop = asyncio.get_running_loop()
        self._owner = asyncio.current_task()
        self._context = copy_context()
        self._previous: dict[int, Any] = {}
        self._task: asyncio.Task[None] | None = None
        self._received: list[int] = []

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._handle) for number in HANDLED}
            server = getattr(self._previous[signal.SIGTERM], "__self__", None)
            if getattr(server, "should_exit", False):  # one came before us, and uvicorn has made a note of it
                self._handle(signal.SIGTERM, None)
        return self

    def __exit__(self, *_: object) -> None:
        if self._given_up:
            self._leave()
        self._restore()

    def started(self, drain: Callable[[str], Coroutine[Any, Any, object]]) -> None:
        """From now on a signal calls `drain` with its name."""
        self._drain = drain

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._received.append(number)
        if self._received.count(signal.SIGINT) > 1:
            telemetry.flush()
            os._exit(ExitCode.FORCED)
        if len(self._received) == 1:
            # A signal handler may run between any two bytecodes: it only leaves a note for the loop. Not in the context of
            # what it has interrupted: that may be a node, and the stop would be taken for something that the node began.
            self._loop.call_soon_threadsafe(self._begin, number, context=self._context)

    def _begin(self, number: int) -> None:
        name = signal.Signals(number).name
        if self._drain is None:
            self._give_up(name)
        else:
            self._task = asyncio.create_task(self._drain_first(number, self._drain(name)), name="stop")

    def _give_up(self, name: str) -> None:
        """Nothing has begun: leave what is being opened, and go. An import goes on in its thread, and is not waited for."""
        log.info("stopped while it was starting", extra={"event": "start.given_up", "reason": name})
        self._given_up = True
        timer = threading.Timer(START_SECONDS, self._leave)
        timer.daemon = True
        timer.start()
        if self._owner is not None:
            self._owner.cancel()

    def _leave(self) -> None:
        telemetry.flush()
        os._exit(ExitCode.CLEAN)

    async def _drain_first(self, number: int, draining: Coroutine[Any, Any, object]) -> None:
        try:
            await draining
        finally:
            handler = self._previous.get(number)
            if callable(handler):
                handler(number, None)
            elif handler == signal.SIG_DFL:
                self._restore()
                signal.raise_signal(number)
