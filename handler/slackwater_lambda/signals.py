"""SIGTERM in an execution environment, taken by a thread that waits for it.

A handler installed with `signal.signal` runs in the main thread only, and that one is inside the runtime client's C++
code in every image that does not set AWS_EXECUTION_ENV: it would never run. A blocked signal stays pending until
`sigwait` takes it, whatever the main thread does. Call `block` before any other thread exists: they inherit it.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

_WAITED_FOR = {signal.SIGTERM}


def block() -> None:
    """Keep SIGTERM for `on_sigterm`. Processes that nodes start inherit this: they have to unblock it themselves."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)


def on_sigterm(stop: Callable[[], None]) -> threading.Thread:
    """Call `stop` in a thread of its own as soon as SIGTERM comes."""

    def wait() -> None:
        signal.sigwait(_WAITED_FOR)
        stop()

    thread = threading.Thread(target=wait, name="sigterm", daemon=True)
    thread.start()
    return thread
