"""Sessions on the server: those that a pool has there, and what they wait for."""

from __future__ import annotations

import asyncio
import time
from typing import LiteralString

import psycopg
from psycopg.conninfo import conninfo_to_dict

from slackwater.postgres.pool import Database

WAIT_SECONDS = 15.0


def sessions(server_uri: str, database: Database, condition: str = "true") -> set[int]:
    """The process ids of those that meet a condition on `pg_stat_activity`."""
    query = f"select pid from pg_stat_activity where datname = %s and application_name like 'slackwater%%' and {condition}"
    name = conninfo_to_dict(database.conninfo)["dbname"]
    with psycopg.connect(server_uri, autocommit=True) as connection:
        return {pid for (pid,) in connection.execute(query, (name,))}


def terminate(server_uri: str, database: Database) -> None:
    """End every session of now, and wait for it: the pool may be opening others."""
    there = sessions(server_uri, database)
    with psycopg.connect(server_uri, autocommit=True) as connection:
        connection.execute("select pg_terminate_backend(pid) from unnest(%s::int[]) as pid", (list(there),))
    deadline = time.monotonic() + 10
    while there & sessions(server_uri, database):
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def until_working(uri: str, statement: str) -> None:
    """Wait until a session of the database is in the middle of the statement that begins like this."""
    await _until(uri, "state = 'active' and query like %s", f"{statement}%")


async def until_waiting(uri: str, count: int = 1) -> None:
    """Wait until so many sessions of the database wait for a lock."""
    await _until(uri, "wait_event_type = 'Lock'", count=count)


async def _until(uri: str, condition: LiteralString, *parameters: str, count: int = 1) -> None:
    query: LiteralString = f"select from pg_stat_activity where datname = current_database() and {condition}"
    async with (
        asyncio.timeout(WAIT_SECONDS),
        await psycopg.AsyncConnection.connect(uri, autocommit=True) as watcher,
    ):
        while (await watcher.execute(query, parameters)).rowcount < count:
            await asyncio.sleep(0.01)
