"""The official in-memory server in a process of its own: the peer that ours is compared with."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from socket import socket

ROOT = Path(__file__).parents[2]
START_SECONDS = 90
STOP_SECONDS = 10
INSTALL_SECONDS = 420
OURS = ("SLACKWATER_", "LANGSMITH_", "LANGCHAIN_", "LANGGRAPH_", "PYTHON")


class PeerMissing(Exception):
    """The official server could not be installed into .test/peer."""


@dataclass(eq=False)
class Peer:
    """`langgraph dev`, its folder, its log."""

    process: subprocess.Popen[bytes]
    log: Path
    url: str

    @property
    def pid(self) -> int:
        return self.process.pid

    def until_ready(self) -> None:
        """Raises RuntimeError with the end of its log when it does not serve."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(OSError):
                urllib.request.urlopen(f"{self.url}/ok", timeout=5).close()
                return
            time.sleep(0.1)
        raise RuntimeError(f"the official server did not start:\n{self.log.read_text()[-3000:]}")

    def stop(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def installed() -> Path:
    """The folder of its programs, which are installed if they are not there. Raises PeerMissing."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "peer.py")],
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
    )
    if done.returncode:
        raise PeerMissing(f"{PeerMissing.__doc__}\n{done.stdout}{done.stderr}")
    return Path(done.stdout.strip())


def launch(project: Path, folder: Path, *, jobs: int) -> Peer:
    """Start it with `jobs` runs at a time, and do not wait until it serves. `folder` takes what it writes."""
    # It leaves its memory in the folder that it is started in, so it gets a copy of the project.
    copy = folder / "peer"
    shutil.copytree(project, copy, ignore=shutil.ignore_patterns("__pycache__", ".langgraph_api"))
    with socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    programs, log = installed(), folder / "peer.log"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(str(programs / "langgraph"), "dev", "--no-browser", "--no-reload"),
                *("--host", "127.0.0.1", "--port", str(port), "--n-jobs-per-worker", str(jobs)),
            ],
            cwd=copy,
            env={
                **kept,
                "PATH": os.pathsep.join([str(programs), os.environ.get("PATH", os.defpath)]),
                "LANGSMITH_TRACING": "false",
                "LANGGRAPH_CLI_NO_ANALYTICS": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Peer(process, log, f"http://127.0.0.1:{port}")


@contextmanager
def peer_of(project: Path, folder: Path, *, jobs: int = 40) -> Iterator[Peer]:
    """The official server, ready, and gone at the end."""
    peer = launch(project, folder, jobs=jobs)
    try:
        peer.until_ready()
        yield peer
    finally:
        peer.stop()
