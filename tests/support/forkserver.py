"""Processes of `slackwater …` that need not import everything anew, as each would for two seconds of the processor.

A server of forks, one for each process that runs tests, has imported what the command imports, and done nothing else: no event
loop, no thread, no connection. Each fork is a process with its own session, environment, folder and output, as if it had been
executed; only its imports are shared. `python -P forkserver.py NUMBER` is that server, NUMBER its end of a socket.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NoReturn

START_SECONDS = 120
MESSAGE_BYTES = 1 << 20
POLL_SECONDS = 0.005


class Forked:
    """A fork, by the same names as a `subprocess.Popen`."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self._server = server
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._server.code_of(self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        until = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            time.sleep(POLL_SECONDS)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """Its client's side."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._codes: dict[int, int] = {}
        self._lock = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                # Without a folder of ours on its path, or a package of ours among its modules: projects have some of those names.
                [sys.executable, "-P", __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._socket.settimeout(START_SECONDS)
        assert self._socket.recv(MESSAGE_BYTES) == b"ready"
        atexit.register(self._close)

    def fork(
        self,
        arguments: list[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stdout: int,
        stderr: int,
        program: Literal["slackwater", "uvicorn"] = "slackwater",
    ) -> Forked:
        """`slackwater ARGUMENTS` in a process of its own, with the priority of this one."""
        wish = {
            "program": program,
            "arguments": arguments,
            "cwd": str(cwd),
            "env": dict(env),
            "nice": os.getpriority(os.PRIO_PROCESS, 0),
        }
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(wish).encode()], [stdout, stderr])
            while True:
                told = json.loads(self._socket.recv(MESSAGE_BYTES))
                if "forked" in told:
                    return Forked(self, told["forked"])
                self._note(told)

    def code_of(self, pid: int) -> int | None:
        """The exit code of a fork; None while it is there."""
        with self._lock:
            while select.select([self._socket], [], [], 0)[0]:
                self._note(json.loads(self._socket.recv(MESSAGE_BYTES)))
            return self._codes.get(pid)

    def _note(self, told: dict[str, int]) -> None:
        self._codes[told["pid"]] = told["code"]

    def _close(self) -> None:
        self._socket.close()  # which ends it
        self._process.wait()


_server: ForkServer | None = None


def fork_server() -> ForkServer:
    """That of this process."""
    global _server
    if _server is None:
        _server = ForkServer()
    return _server


# The server's side


def main(number: int) -> None:
    import uvicorn.protocols.http.httptools_impl
    import uvicorn.protocols.websockets.websockets_impl  # noqa: F401

    import slackwater.cli
    import slackwater.runtime.execution.executor
    import slackwater.web.server  # noqa: F401

    assert threading.active_count() == 1, "a fork has only the thread that forks"
    gc.collect()
    gc.freeze()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with socket.socket(fileno=number) as client:
        client.send(b"ready")
        while True:
            ready, _, _ = select.select([client, woken], [], [])
            if woken in ready:
                os.read(woken, 4096)
                _tell_of_the_dead(client)
            if client in ready:
                message, fds, _, _ = socket.recv_fds(client, MESSAGE_BYTES, 2)
                if not message:
                    return
                pid = os.fork()
                if pid == 0:
                    _become(json.loads(message), fds)
                for fd in fds:
                    os.close(fd)
                client.send(json.dumps({"forked": pid}).encode())


def _tell_of_the_dead(client: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        client.send(json.dumps({"pid": pid, "code": os.waitstatus_to_exitcode(status)}).encode())


def _become(wish: dict[str, object], fds: list[int]) -> NoReturn:
    """The process that was wished for."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        os.setpriority(os.PRIO_PROCESS, 0, int(str(wish["nice"])))
        for fd, standard in zip(fds, (1, 2), strict=True):
            os.dup2(fd, standard)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        os.chdir(str(wish["cwd"]))
        environ = wish["env"]
        assert isinstance(environ, dict)
        os.environ.clear()
        os.environ.update(environ)
        time.tzset()
        arguments = wish["arguments"]
        assert isinstance(arguments, list)
        sys.argv[:] = [str(wish["program"]), *arguments]
        if wish["program"] == "uvicorn":
            from uvicorn import main as command
        else:
            from slackwater.cli import main as command

        try:
            command()
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
    os._exit(code)


if __name__ == "__main__":
    main(int(sys.argv[1]))
