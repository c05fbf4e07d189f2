"""The database of a command: that of the settings, with this release's schema."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import psycopg

from slackwater.aws.database import conninfo_of
from slackwater.errors import SchemaError
from slackwater.postgres import schema
from slackwater.postgres.conninfo import Conninfo
from slackwater.postgres.embedded import EmbeddedPostgres
from slackwater.postgres.pool import Database
from slackwater.settings import Settings

T = TypeVar("T")

CLOSE_SECONDS = 2.0


def with_database(uri: str | None, use: Callable[[Database, Settings], Awaitable[T]]) -> T:
    """What `use(database, settings)` returns. Raises SettingsError, SchemaError."""

    async def run(settings: Settings) -> T:
        async with open_database(settings) as database:
            return await use(database, settings)

    return asyncio.run(run(Settings.load(database_uri=uri)))


def embedded_exists(settings: Settings) -> bool:
    """Whether an embedded server has been set up where the settings say."""
    return (settings.data_dir / "postgres" / "data" / "PG_VERSION").exists()


@asynccontextmanager
async def server_of(settings: Settings) -> AsyncIterator[Conninfo]:
    """The conninfo of the database; an embedded server runs until the end. Nothing new is set up.

    Raises SchemaError.
    """
    conninfo = conninfo_of(settings)
    if conninfo is not None:
        yield conninfo
        return
    if not embedded_exists(settings):
        raise SchemaError(
            f"There is no database: SLACKWATER_DATABASE_URI is not set, and there is no embedded server in "
            f"{settings.data_dir.resolve()}; run this in the folder where `slackwater serve` was started."
        )
    server = EmbeddedPostgres(settings.data_dir, bindir=settings.postgres_bin)
    try:
        yield await server.astart()
    finally:
        server.release()


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """The open pool. Raises SchemaError, also for whatever goes wrong with the database later."""
    async with server_of(settings) as conninfo:
        database = Database(
            conninfo, max_size=2, statement_seconds=settings.statement_seconds, name=f"cli {os.getpid()}"
        )
        await schema.check(database)
        await database.open()
        try:
            yield database
        except psycopg.Error as error:
            line = str(error).strip().partition("\n")[0].rstrip(".")
            raise SchemaError(f"The database reports an error ({line}): run `slackwater doctor`.") from error
        finally:
            await database.close(CLOSE_SECONDS)
