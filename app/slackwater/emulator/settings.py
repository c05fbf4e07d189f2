"""The settings of the emulator, and the variables and database that it gives to execution environments."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from dotenv import dotenv_values

from slackwater.errors import SettingsError
from slackwater.project.project import Project
from slackwater.settings import Settings

DOTENV = ".env"
_PASSED = ("SLACKWATER_", "AWS_ENDPOINT_URL")


def load(project: Path | None, database_uri: str | None) -> Settings:
    """The emulator's settings. Raises SettingsError, also if the project does not exist."""
    # How runs are handed over is set in the environments only: some of the ways work only there.
    settings = Settings.load(project=project, database_uri=database_uri, handover="sweep")
    Project.read(settings.project)
    return settings


def root_of(settings: Settings) -> Path:
    """The project's folder: the working directory of environments."""
    project = settings.project.resolve()
    return project.parent if project.is_file() else project


def authorizer_of(settings: Settings) -> str | None:
    """The kind of authorizer to emulate. Lambda needs keys, accounts or an authorizer, so without the others there is one."""
    return settings.authorizer or (None if settings.has_keys or settings.accounts else "lambda")


def variables(settings: Settings, given: Sequence[str]) -> dict[str, str]:
    """Every `SLACKWATER_…` and `AWS_ENDPOINT_URL…` from `.env` and the environment, and `given` entries, NAME or NAME=VALUE.

    Raises SettingsError.
    """
    known = {**dotenv_values(DOTENV), **os.environ}
    passed = {name: value for name, value in known.items() if value and name.startswith(_PASSED)}
    if (kind := authorizer_of(settings)) is not None:
        passed["SLACKWATER_AUTHORIZER"] = kind
    passed["SLACKWATER_PROJECT"] = str(settings.project.resolve())
    for item in given:
        name, separator, text = item.partition("=")
        value = text if separator else known.get(name)
        if value is None:
            raise SettingsError(
                f"--env {name}: the variable is not set; set it, or write --env {name}=VALUE."
            )
        passed[name] = value
    return passed


@asynccontextmanager
async def database_of(settings: Settings) -> AsyncIterator[dict[str, str]]:
    """The variables that configure the database. Without one, the embedded server runs until this context ends.

    On Lambda there is no embedded server, so it is started and migrated here, as `serve` does.
    """
    if settings.database_uri is not None:
        yield {"SLACKWATER_DATABASE_URI": settings.database_uri}
    elif settings.has_database:
        yield {}
    else:
        from slackwater.postgres import schema
        from slackwater.postgres.embedded import EmbeddedPostgres

        server = EmbeddedPostgres(settings.data_dir, bindir=settings.postgres_bin)
        conninfo = await asyncio.to_thread(server.start)
        try:
            await schema.migrate(conninfo)
            yield {"SLACKWATER_DATABASE_URI": conninfo}
        finally:
            server.release()
