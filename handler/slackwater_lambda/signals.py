"""SIGTERM in an execution environment, received by a thread that waits for it.

A handler installed with `signal.signal` runs only in the main thread, which is inside the runtime client's C++ code in every
image that does not set AWS_EXECUTION_ENV: the handler would never run. A blocked signal stays pending until `sigwait`
receives it, whatever the main thread does. Call `block` before any other thread exists: threads inherit the mask.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

_WAITED_FOR = {signal.SIGTERM}


def block() -> None:
    """Block SIGTERM, for `on_sigterm` to receive. Child processes of nodes inherit this and have to unblock it themselves."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)


def on_sigterm(stop: Callable[[], None]) -> threading.Thread:
    """Call `stop` in a new thread as soon as SIGTERM arrives."""

    def wait() -> None:
        signal.sigwait(_WAITED_FOR)
        stop()

    thread = threading.Thread(target=wait, name="sigterm", daemon=True)
    thread.start()
    return thread
