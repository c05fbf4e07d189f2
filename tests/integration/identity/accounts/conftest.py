"""Accounts on a database of the test's own, in this process and in others."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from people import Command, MakeAccounts
from support.command import run_command

from slackwater.identity.accounts.service import AccountPolicy, Accounts
from slackwater.postgres.pool import Database
from tests.support.server import SOURCES

SCRIPT = Path(__file__).with_name("process_of_accounts.py")


@pytest.fixture
async def made(database: Database) -> AsyncIterator[MakeAccounts]:
    """Makes accounts as a process has them, of which there may be several: `made(session_days=1)`."""
    several: list[Accounts] = []

    def make(**policy: Any) -> Accounts:
        several.append(Accounts(database, AccountPolicy(**policy)))
        return several[-1]

    yield make
    for each in several:
        each.close()


@pytest.fixture
def accounts(made: MakeAccounts) -> Accounts:
    return made()


@pytest.fixture
def command(tmp_path: Path, database_uri: str) -> Command:
    """Runs `slackwater ARGUMENTS` on the test's database."""
    return partial(asyncio.to_thread, partial(run_command, tmp_path, SLACKWATER_DATABASE_URI=database_uri))


@pytest.fixture
async def holder(database_uri: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """A connection that is in nobody's way, to hold locks by."""
    async with await psycopg.AsyncConnection.connect(database_uri, autocommit=True) as connection:
        yield connection


class AccountsProcess:
    """A process that does the same thing with accounts several times at once, when it is told to go."""

    def __init__(self, uri: str, name: str, calls: list[dict[str, Any]]) -> None:
        self.name = name
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, SOURCES))}
        self.process = subprocess.Popen(
            [sys.executable, SCRIPT, uri, name, json.dumps(calls)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    async def ready(self) -> None:
        """It has imported everything, is connected, and waits."""
        assert await self._line() == "ready"

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    async def outcomes(self) -> list[str]:
        """What has come of each call: the name of an error, or `opened`."""
        outcomes: list[str] = json.loads(await self._line())
        return outcomes

    async def _line(self) -> str:
        assert self.process.stdout is not None
        return (await asyncio.wait_for(asyncio.to_thread(self.process.stdout.readline), 120)).strip()

    def end(self) -> None:
        self.process.kill()
        self.process.wait(30)
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture
def process(database_uri: str) -> Iterator[Callable[..., AccountsProcess]]:
    """Starts processes: `process("one", [{"act": "login", "email": …, "password": …}])`."""
    started: list[AccountsProcess] = []

    def start(name: str, calls: list[dict[str, Any]]) -> AccountsProcess:
        started.append(AccountsProcess(database_uri, name, calls))
        return started[-1]

    yield start
    for each in started:
        each.end()
