"""The parent process of one emulator: ends the emulator and its children when the process that wants it ends.

Run as a script with the descriptor of a pipe and a command: `python -I -S watchdog.py FD COMMAND…`. The other end of the pipe
is held by the process that wants the emulator; the kernel closes it even on SIGKILL. Only the standard library is imported, so
that it starts in milliseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from pathlib import Path

STOP_SECONDS = 3.0
"""After SIGTERM the emulator gives the runtime 0.6 s and its extensions 2 s."""

KILL = signal.SIGINT
"""Ends everything at once."""

_SET_CHILD_SUBREAPER = 36


def watch(owner: int, command: list[str]) -> int:
    """Run `command` until it exits or the owner is gone, and return its exit code. None of its children survive."""
    # Orphans become our children: the runtime has its own process group, and would survive a kill of the emulator's.
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    wake, noted = os.pipe()
    for end in (wake, noted):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(noted, warn_on_full_buffer=False)
    # Not SIG_IGN, which the command would inherit.
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    child = os.posix_spawn(command[0], command, os.environ)
    deadline: float | None = None
    try:
        while (code := _exit_code(child)) is None:
            if deadline is not None and time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
            # After a stop has been requested, the pipe no longer matters.
            watched, seconds = ([wake, owner], None) if deadline is None else ([wake], 0.05)
            ready, _, _ = select.select(watched, [], [], seconds)
            signals = os.read(wake, 512) if wake in ready else b""
            if KILL in signals:
                deadline = 0.0
            elif deadline is None and (owner in ready or signal.SIGTERM in signals):
                deadline = time.monotonic() + STOP_SECONDS
                os.kill(child, signal.SIGTERM)
        return code
    finally:
        _kill_children()


def _exit_code(child: int) -> int | None:
    """Reap exited processes; return the exit code of `child`, negative for a signal, once it has exited."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == child:
                return os.waitstatus_to_exitcode(status)
            if pid == 0:
                return None
    return None


def _kill_children() -> None:
    """Kill until no children are left: those of killed processes become ours."""
    with contextlib.suppress(ChildProcessError):
        while True:
            for pid in _children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            os.waitpid(-1, 0)


def _children() -> list[int]:
    ours = str(os.getpid())
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # "pid (name) state parent …": the name may hold spaces and parentheses.
            if stat.read_text().rpartition(")")[2].split()[1] == ours:
                found.append(int(stat.parent.name))
    return found


if __name__ == "__main__":
    sys.exit(watch(int(sys.argv[1]), sys.argv[2:]) & 0xFF)
