"""A new database for the demo, on the embedded server."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psycopg

from slackwater.postgres.embedded import EmbeddedPostgres
from slackwater.postgres.schema import migrate

# Of demos that were killed: nobody is connected to them.
LEFT = r"""
select datname from pg_database d where datname like 'demo\_%'
and not exists (select from pg_stat_activity a where a.datname = d.datname)"""


@asynccontextmanager
async def new_database(data: Path) -> AsyncIterator[str]:
    """The URI of a new database with our schema. The server stops with the last process that uses it.

    Not the last demo's database: a run that was interrupted there would go on here, as it should, and be in the way.
    """
    server = EmbeddedPostgres(data)
    everyones = await server.astart()
    name = f"demo_{os.getpid()}"
    before, _, query = everyones.partition("?")
    uri = f"{before.rpartition('/')[0]}/{name}?{query}"
    try:
        async with await psycopg.AsyncConnection.connect(everyones, autocommit=True) as connection:
            for (left,) in await (await connection.execute(LEFT)).fetchall():
                with suppress(psycopg.errors.ObjectInUse, psycopg.errors.UndefinedTable):
                    await connection.execute(f'drop database if exists "{left}"')
            await connection.execute(f"create database {name} template template0")
            try:
                await migrate(uri)
                yield uri
            finally:
                await connection.execute(f"drop database {name} with (force)")
    finally:
        server.release()
