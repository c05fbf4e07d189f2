"""Server processes: started by the real command, stopped by real signals, and never left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import httpx

from tests.support.forkserver import Forked, fork_server

ROOT = Path(__file__).parents[2]
SOURCES = (ROOT / "app", ROOT / "handler")
"""Where the packages are imported from."""
SITE = Path(__file__).parent / "site"

LEASE_SECONDS = 2.4
SHORT: dict[str, str] = {
    "SLACKWATER_GRACE_SECONDS": "3",
    "SLACKWATER_DRAIN_RESERVE_SECONDS": "1",
    "SLACKWATER_HARD_RESERVE_SECONDS": "0.3",
    "SLACKWATER_LEASE_SECONDS": str(LEASE_SECONDS),
    "SLACKWATER_POLL_SECONDS": "0.2",
    "SLACKWATER_SWEEP_SECONDS": "0.5",
    "SLACKWATER_POOL_MAX_SIZE": "6",
    "SLACKWATER_LOG_FORMAT": "json",
}
"""Settings with which a drill is over in seconds."""

FORBIDDEN = (
    "PoolClosed",
    "Task exception was never retrieved",
    "exception was never retrieved",
    "was never awaited",
    "Traceback",
    "Task was destroyed but it is pending",
)
"""What no log may say, whatever was done to the process."""

START_SECONDS = 120

CLOCK = "DRILL_CLOCK_SECONDS"
"""See `site/sitecustomize.py`."""


@dataclass(eq=False)
class ServerProcess:
    """A server in a process of its own."""

    name: str
    process: subprocess.Popen[bytes] | Forked
    out: Path
    err: Path
    url: str = ""
    tolerated: tuple[str, ...] = ()
    """What this process's log may say although it is forbidden: a node's own exception has a traceback."""
    stopped_at: float = 0.0
    _signals: list[signal.Signals] = field(default_factory=list)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def send(self, number: signal.Signals) -> float:
        """Send a signal; the monotonic time just before."""
        self._signals.append(number)
        self.stopped_at = time.monotonic()
        with suppress(ProcessLookupError):
            self.process.send_signal(number)
        return self.stopped_at

    def sigterm(self) -> float:
        return self.send(signal.SIGTERM)

    def sigint(self) -> float:
        return self.send(signal.SIGINT)

    def sigkill(self) -> float:
        return self.send(signal.SIGKILL)

    def stop(self) -> float:
        return self.send(signal.SIGSTOP)

    def cont(self) -> float:
        return self.send(signal.SIGCONT)

    async def wait(self, timeout: float = 15) -> int:
        """The exit code. Raises TimeoutError."""
        deadline = time.monotonic() + timeout
        while (code := self.process.poll()) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} is still there after {timeout} s:\n{self.tail()}")
            await asyncio.sleep(0.005)
        return code

    # What it says

    def log(self) -> list[dict[str, Any]]:
        """The JSON lines of its log."""
        lines = []
        for line in self.err.read_text(errors="replace").splitlines():
            with suppress(json.JSONDecodeError):
                lines.append(json.loads(line))
        return lines

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log lines with this `event`."""
        return [line for line in self.log() if isinstance(line, dict) and line.get("event") == name]

    def about(self, run_id: str) -> list[dict[str, Any]]:
        """The log lines that name the run."""
        return [line for line in self.log() if line.get("run_id") == run_id]

    def report(self) -> dict[str, Any]:
        """The one drain report."""
        reports = self.events("drain.report")
        assert len(reports) == 1, f"{self.name} wrote {len(reports)} drain reports\n{self.tail()}"
        return reports[0]

    def tail(self, characters: int = 4000) -> str:
        return self.err.read_text(errors="replace")[-characters:]

    def complaints(self) -> list[str]:
        """Lines of its log that say what no log may say."""
        return [
            f"{self.name}: {line[:2000]}"
            for line in (
                self.err.read_text(errors="replace") + self.out.read_text(errors="replace")
            ).splitlines()
            if any(word in line for word in FORBIDDEN) and not any(word in line for word in self.tolerated)
        ]

    async def until_ready(self, timeout: float = START_SECONDS) -> None:
        """Wait until it serves. Raises AssertionError with the end of its log when it does not."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and self.alive:
            if not self.url:
                for line in self.out.read_text().splitlines():
                    if line.startswith("slackwater.ready url="):
                        self.url = line.removeprefix("slackwater.ready url=").strip()
            if self.url and await self.answers() == 200:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"{self.name} does not serve (exit {self.process.poll()}):\n{self.tail()}")

    async def answers(self, path: str = "/ready") -> int:
        """The status of a GET, or 0 when nobody answers."""
        with suppress(httpx.HTTPError):
            async with httpx.AsyncClient(verify=False) as client:  # no certificates to load
                return (await client.get(f"{self.url}{path}", timeout=5)).status_code
        return 0


@dataclass(eq=False)
class Fleet:
    """The servers of one drill: same database, same settings."""

    database_uri: str
    folder: Path
    project: Path
    env: dict[str, str] = field(default_factory=dict)
    servers: list[ServerProcess] = field(default_factory=list)

    def launch(
        self,
        *,
        project: Path | None = None,
        env: Mapping[str, str] | None = None,
        uvicorn: bool = False,
        tolerated: tuple[str, ...] = (),
    ) -> ServerProcess:
        """Start a process, and do not wait until it serves."""
        name = f"server{len(self.servers) + 1}"
        project = project or self.project
        settings = {**SHORT, "SLACKWATER_DATABASE_URI": self.database_uri, **self.env, **(env or {})}
        environ = {**clean_environment(), **settings}
        out, err = self.folder / f"{name}.out", self.folder / f"{name}.err"
        url = ""
        process: subprocess.Popen[bytes] | Forked
        with out.open("wb") as stdout, err.open("wb") as stderr:
            program: Literal["slackwater", "uvicorn"] = "slackwater"
            arguments = ["serve", "--project", str(project), "--port", "0"]
            if uvicorn:
                # uvicorn says its address only in a log that ours replaces.
                port = free_port()
                url = f"http://127.0.0.1:{port}"
                environ["SLACKWATER_PROJECT"] = str(project)
                program, arguments = "uvicorn", ["slackwater.main:app", "--port", str(port)]
            if CLOCK in environ:  # which is wrong from the start on
                command = [str(Path(sys.executable).with_name(program)), *arguments]
                process = self._execute(command, environ, stdout, stderr)
            else:
                process = fork_server().fork(
                    arguments,
                    cwd=self.folder,
                    env=environ,
                    stdout=stdout.fileno(),
                    stderr=stderr.fileno(),
                    program=program,
                )
        server = ServerProcess(name, process, out, err, url, tolerated)
        self.servers.append(server)
        return server

    def _execute(
        self, command: list[str], environ: Mapping[str, str], stdout: IO[bytes], stderr: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            cwd=self.folder,  # nobody's .env
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )

    async def start(self, count: int = 1, **options: Any) -> list[ServerProcess]:
        """Start `count` servers and wait until all serve."""
        servers = [self.launch(**options) for _ in range(count)]
        await asyncio.gather(*(server.until_ready() for server in servers))
        return servers

    @property
    def complaints(self) -> list[str]:
        return [line for server in self.servers for line in server.complaints()]

    def logs(self) -> str:
        return "\n".join(f"--- {server.name}\n{server.tail(2500)}" for server in self.servers)

    async def close(self) -> None:
        """Stop the servers that are left: politely, and then not."""
        alive = [server for server in self.servers if server.alive]
        for server in alive:
            server.send(signal.SIGCONT)
            server.send(signal.SIGTERM)
        deadline = time.monotonic() + 6
        for server in alive:
            with suppress(TimeoutError):
                await server.wait(max(0.05, deadline - time.monotonic()))
        self.kill()

    def kill(self) -> None:
        for server in self.servers:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.process.wait()


@asynccontextmanager
async def fleet_of(
    database_uri: str, folder: Path, project: Path, env: Mapping[str, str] | None = None
) -> AsyncIterator[Fleet]:
    """A fleet whose processes are gone at the end, whatever happens."""
    fleet = Fleet(database_uri, folder, project, dict(env or {}))
    try:
        yield fleet
        await fleet.close()
    finally:
        fleet.kill()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def address_of_this_machine() -> str:
    """One that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing
        address: str = probe.getsockname()[0]
    assert not address.startswith("127."), "this machine has no address but loopback"
    return address


def clean_environment() -> dict[str, str]:
    """Ours without what would configure a server."""
    ours = ("SLACKWATER_", "DRILL_", "LANGSMITH_", "LANGCHAIN_")
    uris = ("DATABASE_URI", "POSTGRES_URI", "DATABASE_URL")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(ours) and name not in uris
    }
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(SITE), os.environ.get("PYTHONPATH")]))
    environment["LANGSMITH_TRACING"] = "false"
    return environment
