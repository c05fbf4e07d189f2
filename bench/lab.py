"""What every benchmark needs: a durable Postgres, server processes, and a place for what they write."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import orjson
import psycopg
from psycopg.rows import dict_row
from rich.progress import Progress

from slackwater.postgres.embedded import EmbeddedPostgres

ROOT = Path(__file__).parents[1]
PROJECT = Path(__file__).parent / "project"
START_SECONDS = 60
MIGRATE_SECONDS = 120
ROUNDS = 6
"""The least number of rounds per side: a median of fewer moves with whatever else the machine does."""
QUICK_SECONDS = 0.2
S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True)
class Tree:
    """A source tree whose server is measured. All trees serve the graphs of this one."""

    name: str
    root: Path

    @property
    def packages(self) -> tuple[str, str]:
        """The names of its server's package and of the one for AWS Lambda; older trees have other names."""
        return ("slackwater", "slackwater_lambda") if self._has_roots else ("app", "handler")

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that put its modules first, whichever tree is installed or on our own path."""
        roots = (self.root / "app", self.root / "handler") if self._has_roots else (self.root,)
        return {"PYTHONPATH": os.pathsep.join(map(str, roots))}

    @property
    def _has_roots(self) -> bool:
        return (self.root / "app" / "slackwater").is_dir()

    def command(self, *arguments: str) -> list[str]:
        """Its command line; needs its `environment`, and `root` as the working directory."""
        return [sys.executable, "-m", "slackwater" if self._has_roots else "app.cli", *arguments]

    @property
    def version(self) -> str:
        """Its commit, with `-dirty` if files have changed since; empty outside of git."""
        asked = ["git", "describe", "--always", "--dirty"]
        with suppress(OSError):
            return subprocess.run(asked, cwd=self.root, capture_output=True, text=True).stdout.strip()
        return ""


THIS = Tree("server", ROOT)
AGAINST = "before"
"""The name of the tree to compare with."""


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
        """Wait until it serves. Raises RuntimeError with the end of its log if it does not."""
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
        """Send SIGTERM; the seconds until the process was gone. Raises RuntimeError if the stop was not clean."""
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
            ["/bin/ps", "-o", "rss=", "-p", str(self.pid)], capture_output=True, text=True, check=True
        )
        return int(shown.stdout) / 1024


@dataclass
class Lab:
    """The means of one run of the benchmarks."""

    progress: Progress
    quick: bool
    folder: Path
    server_uri: str
    local: bool
    trees: Sequence[Tree] = (THIS,)
    """This tree, and the one to compare with."""
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))
    _templates: dict[Tree, str] = field(default_factory=dict)

    def few(self, many: int, quick: int = 1) -> int:
        """`many`, or `quick` if the run only has to show that the benchmark works."""
        return quick if self.quick else many

    def seconds(self, full: float) -> float:
        """How long a round is."""
        return QUICK_SECONDS if self.quick else full

    def by_turns(
        self, what: str, sides: Mapping[str, S], measure: Callable[[S], T], rounds: int = ROUNDS
    ) -> dict[str, list[T]]:
        """Call `measure` for each side once a round, in alternating order, since the second finds warmer caches."""
        found: dict[str, list[T]] = {name: [] for name in sides}
        for number in self.rounds(what, range(self.few(rounds))):
            for name in list(sides) if number % 2 == 0 else reversed(list(sides)):
                found[name].append(measure(sides[name]))
        return found

    def rounds(self, what: str, items: Iterable[T]) -> Iterator[T]:
        """The items, with a progress bar."""
        listed = list(items)
        task = self.progress.add_task(what, total=len(listed))
        for item in listed:
            yield item
            self.progress.advance(task)
        self.progress.remove_task(task)

    def postgres_cpu_seconds(self) -> float:
        """CPU time of all Postgres processes until now, including ended ones; NaN for a server on another machine."""
        if not self.local:
            return float("nan")
        rows = self.query(self.server_uri, "select pid, pg_backend_pid() as own from pg_stat_activity")
        postmaster = parent_of(rows[0]["own"])
        return sum(cpu_seconds_of(row["pid"]) for row in rows) + cpu_seconds_of(postmaster, reaped=True)

    def wal_bytes(self) -> float:
        """How much the durable server has written to its log until now."""
        return float(self.query(self.server_uri, "select pg_current_wal_lsn() - '0/0' as n")[0]["n"])

    def database(self, tree: Tree = THIS) -> str:
        """A new database on the durable server, migrated by a tree."""
        if tree not in self._templates:
            self._templates[tree] = uri = self.copy("template0")
            subprocess.run(
                tree.command("migrate"),
                cwd=tree.root,
                env=clean_environment() | tree.environment | {"SLACKWATER_DATABASE_URI": uri},
                stdout=subprocess.DEVNULL,
                check=True,
                timeout=MIGRATE_SECONDS,
            )
        return self.copy(self._templates[tree])

    def copy(self, uri: str) -> str:
        """A copy of a database, which nobody may be connected to."""
        name = f"bench_{os.getpid()}_{next(self._numbers)}"
        template = uri.partition("?")[0].rpartition("/")[2]
        self.query(self.server_uri, f"create database {name} template {template}")
        before, _, query = self.server_uri.partition("?")
        return f"{before.rpartition('/')[0]}/{name}?{query}"

    def query(self, uri: str, sql: str, params: Any = None) -> list[dict[str, Any]]:
        """The rows of one statement, on a connection of its own."""
        with psycopg.connect(uri, autocommit=True, row_factory=dict_row) as connection:
            cursor = connection.execute(sql, params)
            return cursor.fetchall() if cursor.description else []

    def project(self, name: str, more: Mapping[str, Any]) -> Path:
        """The folder of a project with the graphs of the benchmarks, and `more` in its `langgraph.json`."""
        folder = self.folder / name
        folder.mkdir()
        config = orjson.loads((PROJECT / "langgraph.json").read_bytes())
        graphs = {graph: path.replace("./", f"{PROJECT}/") for graph, path in config["graphs"].items()}
        config |= {"dependencies": [str(PROJECT)], "graphs": graphs, **more}
        (folder / "langgraph.json").write_bytes(orjson.dumps(config))
        return folder

    @contextmanager
    def serve(
        self, database_uri: str, env: Mapping[str, str] | None = None, tree: Tree = THIS
    ) -> Iterator[Server]:
        """Start a server, wait until it is ready, and end it afterwards."""
        server = self.launch(database_uri, env, tree)
        try:
            server.until_ready()
            yield server
        finally:
            self.dispose(server)

    def launch(
        self,
        database_uri: str,
        env: Mapping[str, str] | None = None,
        tree: Tree = THIS,
        command: Sequence[str] = (),
    ) -> Server:
        """Start a server process; the caller must `dispose` of it."""
        log = self.folder / f"server{next(self._numbers)}.log"
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                command or tree.command("serve"),
                cwd=tree.root,
                env=clean_environment()
                | tree.environment
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
    """Our environment without variables that configure a server."""
    ours = ("SLACKWATER_", "LANGSMITH_", "LANGCHAIN_")
    uris = ("DATABASE_URI", "POSTGRES_URI", "DATABASE_URL")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(ours) and k not in uris}
    return {**kept, "LANGSMITH_TRACING": "false"}


def cpu_seconds_of(pid: int, *, reaped: bool = False) -> float:
    """User and system time of a process until now, with `reaped` that of its ended children; NaN without /proc."""
    if (fields := _stat_of(pid)) is None:
        return 0.0 if Path("/proc/self").exists() else float("nan")  # a session that has ended
    return sum(map(int, fields[11 : 15 if reaped else 13])) / os.sysconf("SC_CLK_TCK")


def parent_of(pid: int) -> int:
    fields = _stat_of(pid)
    return int(fields[1]) if fields else 0


def _stat_of(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third on, the state; None if there is no such process."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return None


@contextmanager
def laboratory(
    progress: Progress, *, quick: bool, database_uri: str | None = None, against: Path | None = None
) -> Iterator[Lab]:
    """A lab whose databases and files are gone at the end; `database_uri` replaces the embedded server."""
    folder = Path(tempfile.mkdtemp(prefix="slackwater-bench-"))
    folder.chmod(0o755)  # the embedded server of root runs under another account
    server = None
    try:
        if database_uri is None:
            server = EmbeddedPostgres(folder)
            database_uri = server.start()
        trees = (THIS,) if against is None else (THIS, Tree(AGAINST, against.resolve()))
        lab = Lab(progress, quick, folder, database_uri, local=server is not None, trees=trees)
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
