"""A real Postgres for every test that asks for one: one throwaway server for the session, a database for each test."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from pathlib import Path

import psycopg
import pytest

from app.postgres.embedded import EmbeddedPostgres
from app.postgres.pool import Database
from app.postgres.schema import migrate


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
        self._execute(f"create database {name} template {template}")
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
    return uri.partition("?")[0].rpartition("/")[2]


@pytest.fixture(scope="session")
def server_uri() -> Iterator[str]:
    """The session's server, and a database on it from which to watch the sessions of others."""
    # Not `tmp_path_factory`: its folders are closed to the account that the server runs as under root.
    folder = Path(tempfile.mkdtemp(prefix="slackwater-tests-"))
    folder.chmod(0o755)
    server = EmbeddedPostgres(folder, throwaway=True)
    try:
        yield server.start()
        server.release()
        assert server.wait_stopped(10)
    finally:
        shutil.rmtree(folder)


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
