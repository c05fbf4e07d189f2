"""What every benchmark needs: a durable Postgres, server processes, and a place for what they write."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import orjson
import psycopg
from psycopg.rows import dict_row
from rich.progress import Progress

from app.postgres.embedded import EmbeddedPostgres
from app.postgres.schema import migrate

ROOT = Path(__file__).parents[1]
PROJECT = Path(__file__).parent / "project"
START_SECONDS = 60
T = TypeVar("T")


@dataclass
class Server:
    """`slackwater serve` in a process of its own."""

    process: subprocess.Popen[str]
    log: Path
    url: str = ""

    @property
    def pid(self) -> int:
        return self.process.pid

    def until_ready(self) -> None:
        """Raises RuntimeError with the end of its log when it does not serve."""
        assert self.process.stdout is not None
        patience = threading.Timer(START_SECONDS, self.process.kill)
        patience.start()
        for line in self.process.stdout:
            if line.startswith("slackwater.ready url="):
                patience.cancel()
                self.url = line.removeprefix("slackwater.ready url=").strip()
                return
        patience.cancel()
        raise RuntimeError(f"the server did not start:\n{self.log.read_text()[-3000:]}")

    def terminate(self, timeout: float = 60) -> float:
        """SIGTERM; the seconds until the process was gone. Raises RuntimeError if it was not a clean stop."""
        sent = time.perf_counter()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout)
        took = time.perf_counter() - sent
        if code:
            raise RuntimeError(f"the server left with {code}:\n{self.log.read_text()[-3000:]}")
        return took

    def report(self) -> dict[str, Any]:
        """Its drain report."""
        for line in self.log.read_text().splitlines():
            with suppress(orjson.JSONDecodeError):
                said = orjson.loads(line)
                if said.get("event") == "drain.report":
                    return dict(said)
        raise RuntimeError(f"no drain report:\n{self.log.read_text()[-3000:]}")

    def cpu_seconds(self) -> float:
        """User and system time until now; NaN where there is no /proc."""
        return cpu_seconds_of(self.pid)

    def memory_mb(self) -> float:
        """Resident set size."""
        shown = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(self.pid)], capture_output=True, text=True, check=True
        )
        return int(shown.stdout) / 1024


@dataclass
class Lab:
    """One per run of the benchmarks."""

    progress: Progress
    quick: bool
    folder: Path
    server_uri: str
    local: bool
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def rounds(self, what: str, items: Iterable[T]) -> Iterator[T]:
        """The items, with a progress bar."""
        listed = list(items)
        task = self.progress.add_task(what, total=len(listed))
        for item in listed:
            yield item
            self.progress.advance(task)
        self.progress.remove_task(task)

    def postgres_cpu_seconds(self) -> float:
        """User and system time of all sessions until now; NaN for a server on another machine."""
        pids = self.query(self.server_uri, "select pid from pg_stat_activity")
        return sum(cpu_seconds_of(row["pid"]) for row in pids) if self.local else float("nan")

    def database(self) -> str:
        """A new migrated database on the durable server."""
        name = f"bench_{os.getpid()}_{next(self._numbers)}"
        self.query(self.server_uri, f"create database {name}")
        before, _, query = self.server_uri.partition("?")
        uri = f"{before.rpartition('/')[0]}/{name}?{query}"
        asyncio.run(migrate(uri))
        return uri

    def query(self, uri: str, sql: str, params: Any = None) -> list[dict[str, Any]]:
        """The rows of one statement, on a connection of its own."""
        with psycopg.connect(uri, autocommit=True, row_factory=dict_row) as connection:
            cursor = connection.execute(sql, params)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def serve(self, database_uri: str, env: Mapping[str, str] | None = None) -> Iterator[Server]:
        """A server that is ready, and gone at the end."""
        server = self.launch(database_uri, env)
        try:
            server.until_ready()
            yield server
        finally:
            self.dispose(server)

    def launch(
        self, database_uri: str, env: Mapping[str, str] | None = None, command: Iterable[str] = ()
    ) -> Server:
        """Start a server process; whoever does must `dispose` of it."""
        log = self.folder / f"server{next(self._numbers)}.log"
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                list(command) or [str(Path(sys.executable).with_name("slackwater")), "serve"],
                cwd=ROOT,
                env=clean_environment()
                | {
                    "SLACKWATER_PROJECT": str(PROJECT),
                    "SLACKWATER_PORT": "0",
                    "SLACKWATER_DATABASE_URI": database_uri,
                    "SLACKWATER_LOG_FORMAT": "json",
                    **(env or {}),
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        return Server(process, log)

    def dispose(self, server: Server) -> None:
        if server.process.poll() is None:
            server.process.kill()
        server.process.communicate()


def clean_environment() -> dict[str, str]:
    """Ours, without what would configure a server."""
    ours = ("SLACKWATER_", "LANGSMITH_", "LANGCHAIN_")
    uris = ("DATABASE_URI", "POSTGRES_URI", "DATABASE_URL")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(ours) and k not in uris}
    return {**kept, "LANGSMITH_TRACING": "false"}


def cpu_seconds_of(pid: int) -> float:
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0 if Path("/proc/self").exists() else float("nan")  # a session that has ended


@contextmanager
def laboratory(progress: Progress, *, quick: bool, database_uri: str | None) -> Iterator[Lab]:
    """A lab whose databases and files are gone at the end; `database_uri` replaces the embedded server."""
    folder = Path(tempfile.mkdtemp(prefix="slackwater-bench-"))
    folder.chmod(0o755)  # the embedded server of root runs under another account
    server = None
    try:
        if database_uri is None:
            server = EmbeddedPostgres(folder)
            database_uri = server.start()
        lab = Lab(progress, quick, folder, database_uri, local=server is not None)
        yield lab
        if server is None:
            for row in lab.query(
                database_uri,
                "select datname from pg_database where datname like %s",
                (f"bench_{os.getpid()}_%",),
            ):
                lab.query(database_uri, f"drop database {row['datname']} with (force)")
    finally:
        if server is not None:
            server.release()
            server.wait_stopped(30)
        shutil.rmtree(folder, ignore_errors=True)
