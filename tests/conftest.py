"""A real Postgres for every test that asks for one: one throwaway server for the session, a database for each test."""

from __future__ import annotations

import asyncio
import gc
import os
import pwd
import re
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from slackwater.postgres.binaries import SystemUser
from slackwater.postgres.embedded import EmbeddedPostgres
from slackwater.postgres.pool import Database
from slackwater.postgres.schema import migrate
from tests.support.place import place_of_databases

PRIORITY = os.getpriority(os.PRIO_PROCESS, 0)
NICENESS = {"patient": 5, "prompt": -10}
"""By how much nicer, or less nice, a test is that is marked so."""
CAP_SYS_NICE = 23


def pytest_sessionstart() -> None:
    """Let nobody make an event loop by asking for it: pytest-asyncio asks, and nobody would ever close that one."""
    asyncio.set_event_loop(None)


def pytest_collection_finish() -> None:
    """What is there before the first test stays: the garbage collector need not look through millions of objects again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Patient tests, and the processes that they start, leave the processor to those beside them that have deadlines.

    Prompt ones, whose deadline is short and not ours to choose, get it first.
    """
    nice = sum(more for name, more in NICENESS.items() if item.get_closest_marker(name) is not None)
    # Whoever may not take it back would let the tests that come next go short.
    if not nice or not may_be_less_nice():
        return (yield)
    with priority(PRIORITY + nice):
        return (yield)


def may_be_less_nice() -> bool:
    """Whether this process may raise its priority. In a container not even root may."""
    (capabilities,) = re.findall(r"^CapEff:\s*(\w+)$", Path("/proc/self/status").read_text(), re.M)
    return bool(int(capabilities, 16) >> CAP_SYS_NICE & 1)


@contextmanager
def priority(nice: int) -> Iterator[None]:
    """This thread's, and that of the processes that it starts meanwhile."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, nice)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests have measured with `record_property("figure", …)`, in whichever process they ran."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "figure":
                terminalreporter.write_line(f"{report.nodeid.partition('::')[0]}: {value}")


class Databases:
    """Makes and drops databases on the session's server.

    Drops go on while the next test runs: each waits for a checkpoint, which takes longer than many a test.
    """

    def __init__(self, server_uri: str) -> None:
        self.server_uri = server_uri
        self._numbers = count(1)
        self._drops: list[Future[None]] = []
        self._thread = ThreadPoolExecutor(1)

    def create(self, template: str = "template0") -> str:
        """The URI of a new database; `template0` is empty."""
        name = f"test_{next(self._numbers)}"
        # As files: through the log, as Postgres prefers when the server is busy, a copy takes several times the processor.
        self._execute(f"create database {name} template {template} strategy file_copy")
        before, _, query = self.server_uri.partition("?")
        return f"{before.rpartition('/')[0]}/{name}?{query}"

    def drop(self, uri: str) -> None:
        """Terminate the sessions that are left in the database, and drop it soon."""
        self._drops.append(self._thread.submit(self._execute, f"drop database {name_of(uri)} with (force)"))

    def close(self) -> None:
        self._thread.shutdown()
        for drop in self._drops:
            drop.result()

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self.server_uri, autocommit=True) as connection:
            connection.execute(statement)


def name_of(uri: str) -> str:
    """The database's name in a URI."""
    return str(conninfo_to_dict(uri)["dbname"])


@pytest.fixture(scope="session")
def server_uri() -> Iterator[str]:
    """The session's server, and a database on it from which to watch the sessions of others."""
    with place_of_databases() as folder:
        server = EmbeddedPostgres(folder, throwaway=True)
        with priority(PRIORITY):  # it outlives the test that asks for it first
            uri = server.start()
        yield uri
        server.release()
        assert server.wait_stopped(30)


@pytest.fixture(scope="session")
def databases(server_uri: str) -> Iterator[Databases]:
    databases = Databases(server_uri)
    yield databases
    databases.close()


@pytest.fixture(scope="session")
def template(databases: Databases) -> str:
    """The name of a migrated database that nobody is connected to."""
    uri = databases.create()
    with ThreadPoolExecutor(1) as thread:  # the event loops of this thread are pytest-asyncio's
        thread.submit(asyncio.run, migrate(uri)).result()
    return name_of(uri)


@pytest.fixture
def empty_database_uri(databases: Databases) -> Iterator[str]:
    """A database without any schema of ours."""
    uri = databases.create()
    yield uri
    databases.drop(uri)


@pytest.fixture
def database_uri(databases: Databases, template: str) -> Iterator[str]:
    """A migrated database of the test's own."""
    uri = databases.create(template)
    yield uri
    databases.drop(uri)


@pytest.fixture
async def database(database_uri: str) -> AsyncIterator[Database]:
    """The pool over `database_uri`, open."""
    database = Database(database_uri, max_size=4, statement_seconds=10.0, name="test")
    await database.open()
    yield database
    await database.close(5.0)


@pytest.fixture
def pgbouncer(database_uri: str, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """`pgbouncer(pool_mode="transaction", pool_size=3)`: the URI of `database_uri` through a PgBouncer of one's own.

    `uri` is another database to lead to, by TCP; `settings` are lines of its file.
    """
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        message = "needs Debian's pgbouncer: apt-get install pgbouncer"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    processes: list[subprocess.Popen[bytes]] = []

    def start(
        pool_mode: str = "transaction", pool_size: int = 3, uri: str = database_uri, settings: str = ""
    ) -> str:
        parts = conninfo_to_dict(uri)
        server = Path(str(conninfo_to_dict(database_uri)["host"]))
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        file = tmp_path / f"pgbouncer-{port}.ini"
        file.write_text(
            f"""
            [databases]
            * = host={parts["host"]} port={parts["port"]} user=postgres
            [pgbouncer]
            listen_addr = 127.0.0.1
            listen_port = {port}
            unix_socket_dir =
            auth_type = any
            pool_mode = {pool_mode}
            default_pool_size = {pool_size}
            max_client_conn = 500
            {settings}
            """
        )
        # It refuses root, and its own account could not reach the server's socket.
        account = SystemUser.for_data(server)
        command = [program, str(file)]
        if account.is_other:
            command[1:1] = ["-u", pwd.getpwuid(account.uid).pw_name]
        log = (tmp_path / f"pgbouncer-{port}.log").open("wb")
        with log:
            processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except ConnectionRefusedError:
                assert processes[-1].poll() is None, Path(log.name).read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)
            else:
                return f"postgresql://postgres@127.0.0.1:{port}/{name_of(uri)}"

    yield start
    for process in processes:
        process.terminate()
        process.wait(timeout=30)
