"""What the pool does when the process stood still."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict
from support.impatience import impatient

from slackwater.postgres.pool import Database, StatementTimeout


class Firewall:
    """A TCP way to the server that can forget its connections: it lets nothing more through, and says nothing."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed_eyes: set[asyncio.Task[None]] = set()
        self.accepted = 0

    async def __aenter__(self) -> Firewall:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def forget(self) -> None:
        """Drop the packets of every connection that there is now."""
        self._closed_eyes |= self._tasks

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        server_reader, server_writer = await asyncio.open_unix_connection(self._socket)
        for source, target in ((reader, server_writer), (server_reader, writer)):
            self._tasks.add(asyncio.create_task(self._carry(source, target), name="carry"))

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while (data := await source.read(65_536)) and asyncio.current_task() not in self._closed_eyes:
                target.write(data)
            if asyncio.current_task() in self._closed_eyes:
                await asyncio.Event().wait()
        finally:
            with contextlib.suppress(OSError):
                target.close()


@asynccontextmanager
async def behind_a_firewall(uri: str) -> AsyncIterator[tuple[Firewall, Database]]:
    parts = conninfo_to_dict(uri)
    socket = Path(str(parts["host"])) / f".s.PGSQL.{parts['port']}"
    async with Firewall(socket) as firewall:
        database = Database(
            f"postgresql://postgres@127.0.0.1:{firewall.port}/{parts['dbname']}",
            max_size=4,
            statement_seconds=20.0,
            name="thaw",
        )
        await database.open()
        try:
            yield firewall, database
        finally:
            await database.close(2.0)


async def fill(database: Database) -> None:
    await asyncio.gather(*(database.fetch("select pg_sleep(0.1)") for _ in range(4)))


async def test_after_a_freeze_no_dead_socket_is_handed_out(database_uri: str) -> None:
    async with behind_a_firewall(database_uri) as (firewall, database):
        # GIVEN connections that a firewall has forgotten while the process stood still: that is what it would meet
        await fill(database)
        firewall.forget()
        with impatient(database, 1), pytest.raises(StatementTimeout):
            await database.execute("select 1")

        # WHEN the pool is made fresh
        await fill_again(firewall, database)
        started = time.monotonic()
        await database.refresh()

        # THEN nobody waits for a connection that is dead: everybody who comes gets one that answers
        rows = await asyncio.gather(*(database.fetch_one("select 1 as a") for _ in range(20)))
        assert rows == [{"a": 1}] * 20
        assert time.monotonic() - started < 10


async def fill_again(firewall: Firewall, database: Database) -> None:
    """The attempt above has cost connections, which the pool replaces: forget the new ones as well."""
    async with asyncio.timeout(20):
        while (stats := database.pool.get_stats())["pool_available"] < stats["pool_size"]:
            await asyncio.sleep(0.01)
    firewall.forget()


async def test_a_connection_that_is_in_use_at_a_refresh_is_replaced_when_it_comes_back(
    database: Database,
) -> None:
    async with database.connection() as connection:
        before = connection.info.backend_pid
        await database.refresh()
        await connection.execute("select 1")  # it is not taken away
    pids = await asyncio.gather(
        *(database.fetch_one("select pg_backend_pid() as pid, pg_sleep(0.1)") for _ in range(4))
    )
    assert before not in [row["pid"] for row in pids if row]


async def test_a_pool_that_is_closed_or_was_never_opened_can_be_refreshed(database: Database) -> None:
    await database.close(1.0)
    await database.refresh()
    await Database("postgresql:///nothing", max_size=2, statement_seconds=1.0, name="test").refresh()
