"""What ends a process whose stop has missed its deadline."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from slackwater.errors import ExitCode

OVERRUN_SECONDS = 0.1
"""How long after the deadline a process that still has not left is made to."""

SAY_SECONDS = 0.1
"""How long its last words may take."""


class Watchdog:
    """A node that blocks the event loop cannot push the stop past its deadline, nor can whatever else does not end: then
    the process just leaves."""

    def __init__(self, code: Callable[[], ExitCode], say: Callable[[], None]) -> None:
        """Called in threads of their own once the deadline has passed: `say` logs it, `code` says how to exit."""
        self._code = code
        self._say = say
        self._timer: threading.Timer | None = None

    def watch(self, seconds: float) -> None:
        """End the process shortly after `seconds`. Only where the main thread stops: elsewhere somebody else watches."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._timer = threading.Timer(seconds + OVERRUN_SECONDS, self.overrun)
        self._timer.daemon = True
        self._timer.name = "deadline"
        self._timer.start()

    def cancel(self) -> None:
        """The stop is over in time."""
        if self._timer is not None:
            self._timer.cancel()

    def overrun(self) -> None:
        """Leave, and say so. Does not return."""
        # That may hang, too: whoever writes to a pipe that nobody reads holds the lock of the log.
        saying = threading.Thread(target=self._say, name="overrun", daemon=True)
        saying.start()
        saying.join(SAY_SECONDS)
        os._exit(self._code())
