"""`slackwater migrate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from slackwater.cli.options import AsJson, DatabaseUri, print_json

if TYPE_CHECKING:
    from slackwater.settings import Settings


def migrate(database_uri: DatabaseUri = None, as_json: AsJson = False) -> None:
    """Bring the database schema up to this release, and list the migrations applied.

    Needs a direct connection: set SLACKWATER_MIGRATION_DATABASE_URI if the other
    one goes through a pooler. Safe to run in several processes at once. `serve`
    migrates only the embedded server by itself.
    """
    import asyncio

    from slackwater.settings import Settings

    settings = Settings.load(database_uri=database_uri)
    applied = asyncio.run(_migrate(settings, given=database_uri is not None))
    if as_json:
        print_json({"applied": applied})
    elif applied:
        for name in applied:
            typer.echo(f"applied {name}")
    else:
        typer.echo("Nothing to do: the schema is up to date.")


async def _migrate(settings: Settings, *, given: bool) -> list[str]:
    """Migrate what the settings name; a URI `given` on the command line is the one that is meant."""
    from slackwater.aws.database import conninfo_of
    from slackwater.postgres import schema
    from slackwater.postgres.embedded import EmbeddedPostgres
    from slackwater.project.project import store_of

    index = store_of(settings.project).index
    dims = index.dims if index else None
    conninfo = conninfo_of(settings, None if given else settings.migration_database_uri)
    if conninfo is not None:
        return await schema.migrate(conninfo, dims, table_lock_seconds=settings.lease_seconds / 10)
    server = EmbeddedPostgres(settings.data_dir, bindir=settings.postgres_bin)
    try:
        return await schema.migrate(await server.astart(), dims)
    finally:
        server.release()
