"""Two server processes with accounts on one database, shared by the tests of a file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from support.page import Page
from support.server import Fleet

from slackwater.identity.signing.encryption import Encryption
from slackwater.identity.signing.service import Signing
from slackwater.postgres.pool import Database

PROJECT = Path(__file__).parent / "project"
ADDRESSES = count(1)


@dataclass(frozen=True)
class Deployment:
    """Processes that serve one database."""

    database_uri: str
    urls: list[str]


@pytest.fixture(scope="module")
def deployment(
    databases: Any, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    uri = databases.create(template)
    env = {
        "SLACKWATER_ACCOUNTS": "true",
        "SLACKWATER_SETUP": "open",
        # So each test can come from an address of its own, as lock-outs are about addresses.
        "SLACKWATER_TRUSTED_PROXIES": "127.0.0.1",
    }
    fleet = Fleet(uri, tmp_path_factory.mktemp("accounts"), PROJECT, env)
    with ThreadPoolExecutor(1) as thread:  # the event loops of this thread are pytest-asyncio's
        try:
            servers = thread.submit(asyncio.run, fleet.start(2)).result()
            yield Deployment(uri, [server.url for server in servers])
            thread.submit(asyncio.run, fleet.close()).result()
        finally:
            fleet.kill()
    assert fleet.complaints == []
    databases.drop(uri)


@pytest.fixture
async def page(deployment: Deployment) -> AsyncIterator[Callable[..., Page]]:
    """`page(at=1, **headers)`: a page in a browser of its own, which has the second process for its server."""
    async with AsyncExitStack() as stack:

        def open_page(at: int = 0, **headers: str) -> Page:
            number = next(ADDRESSES)
            address = f"198.51.{number // 250}.{number % 250}"
            opened = Page(deployment.urls[at], {"x-real-ip": address, **headers})
            stack.push_async_callback(opened.close)
            return opened

        yield open_page


@pytest.fixture
async def database(deployment: Deployment) -> AsyncIterator[Database]:
    """The pool over the database of the processes."""
    database = Database(deployment.database_uri, max_size=2, statement_seconds=10.0, name="test")
    await database.open()
    yield database
    await database.close(5.0)


@pytest.fixture
async def signing(database: Database) -> AsyncIterator[Signing]:
    """What signs tokens as the processes do."""
    signing = Signing(database, Encryption())
    yield signing
    await signing.stop()
