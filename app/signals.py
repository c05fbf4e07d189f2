"""SIGTERM and SIGINT: drain first, with the listener still open, and only then what the server would have done.

Under stock uvicorn the listeners close 0.1 s after SIGTERM, and `lifespan.shutdown` comes only when every connection has
closed: one open stream would postpone the drain until SIGKILL. So the handlers that the server has installed
are wrapped, and called when the drain is over.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any

from app import telemetry
from app.errors import ExitCode

HANDLED = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Wraps the installed handlers. Entered in the loop's thread, which has to be the main thread to matter."""

    def __init__(self, stop: Callable[[str], Coroutine[Any, Any, object]]) -> None:
        self._stop = stop
        self._loop = asyncio.get_running_loop()
        self._previous: dict[int, Any] = {}
        self._task: asyncio.Task[None] | None = None
        self._received: list[int] = []

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._handle) for number in HANDLED}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._received.append(number)
        if self._received.count(signal.SIGINT) > 1:
            telemetry.flush()
            os._exit(ExitCode.FORCED)
        if len(self._received) == 1:
            # A signal handler may run between any two bytecodes: it only leaves a note for the loop.
            self._loop.call_soon_threadsafe(self._begin, number)

    def _begin(self, number: int) -> None:
        self._task = asyncio.create_task(self._drain(number), name="stop")

    async def _drain(self, number: int) -> None:
        try:
            await self._stop(signal.Signals(number).name)
        finally:
            handler = self._previous.get(number)
            if callable(handler):
                handler(number, None)
            elif handler == signal.SIG_DFL:
                self.__exit__()
                signal.raise_signal(number)
