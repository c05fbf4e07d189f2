"""The postmaster of one data directory: find it, stop it, and watch over it while anybody uses it.

Run as a script this module is the watchdog of the embedded server. It imports only the standard library, so that
`python -I -S` starts it in milliseconds and it outlives the virtual environment that started it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

FAST_SECONDS = 30.0  # for a fast shutdown, which writes a checkpoint
IMMEDIATE_SECONDS = 5.0  # for an immediate one after that


def find(data: Path) -> int | None:
    """The pid of the live postmaster of this data directory, or None.

    A pid file proves nothing: its pid may be a zombie that an idle PID 1 never reaps, or, after the restart
    of a container, another process. Postgres itself compares only the number and would refuse to start.
    """
    try:
        pid = int(_pid_file(data).split("\n", 1)[0])
    except (OSError, ValueError):
        return None
    if not _is_of(pid, data):
        return None
    return pid if f"postgres -D {data} " in _command_line(pid) + " " else None


def is_ready(data: Path) -> bool:
    """True if the postmaster that wrote the pid file accepts connections."""
    try:
        return _pid_file(data).splitlines()[7].strip() == "ready"
    except (OSError, IndexError):
        return False


def stop(data: Path) -> bool:
    """Stop the server of this data directory; True when it has gone."""
    for signum, seconds in ((signal.SIGINT, FAST_SECONDS), (signal.SIGQUIT, IMMEDIATE_SECONDS)):
        pid = find(data)
        if pid is None:
            return True
        os.kill(pid, signum)
        deadline = time.monotonic() + seconds
        while find(data) == pid and time.monotonic() < deadline:
            time.sleep(0.01)
    return find(data) is None


def watch(data: Path, sockets: Path, users_lock: Path, own_lock: int) -> None:
    """Wait until the last process that uses the server has gone, however it went, then stop the server.

    Every user holds a shared lock on `users_lock`, which the kernel drops even on SIGKILL. `own_lock` is the
    inherited descriptor whose lock says that a watchdog is there.
    """
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(
            signum, signal.SIG_IGN
        )  # whoever signals a whole group means the users; we leave after them
    users = os.open(users_lock, os.O_RDWR | (0 if os.geteuid() else os.O_NOFOLLOW))
    fcntl.flock(users, fcntl.LOCK_EX)
    stop(data)
    shutil.rmtree(sockets, ignore_errors=True)
    # In this order: whoever gets the users' lock next must find that no watchdog is there and start one.
    os.close(own_lock)
    os.close(users)


def _pid_file(data: Path) -> str:
    # Its folder is the server's account's, who may not have root read something else.
    with open(os.open(data / "postmaster.pid", os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)) as file:
        return file.read(10_000)


def _is_of(pid: int, data: Path) -> bool:
    """Whether the process is of the folder's owner: root ends no other for what stands in a file of theirs."""
    try:
        return os.stat(f"/proc/{pid}").st_uid == os.lstat(data).st_uid
    except FileNotFoundError:
        return not os.path.exists("/proc/self")  # macOS


def _command_line(pid: int) -> str:
    """The arguments of a process, empty for a zombie or none."""
    if not os.path.exists("/proc/self/cmdline"):  # macOS
        command = ["ps", "-ww", "-p", str(pid), "-o", "args="]
        return subprocess.run(command, capture_output=True, text=True).stdout
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


if __name__ == "__main__":
    if os.fork():
        os._exit(0)  # whoever starts a watchdog need not live to reap it
    watch(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
