"""What an execution environment is told of the settings, and the database that it uses."""

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
_TOLD = ("SLACKWATER_", "AWS_ENDPOINT_URL")


def load(project: Path | None, database_uri: str | None) -> Settings:
    """The settings of the twin. Raises SettingsError, also for a project that is not there."""
    # How environments hand over is told to them alone: some of the ways make sense only there.
    settings = Settings.load(project=project, database_uri=database_uri, handover="sweep")
    Project.read(settings.project)
    return settings


def root_of(settings: Settings) -> Path:
    """The project's folder, which an environment runs in."""
    project = settings.project.resolve()
    return project.parent if project.is_file() else project


def authorizer_of(settings: Settings) -> str | None:
    """The kind that stands in front. On Lambda nothing is served without keys or one, so without keys there is one."""
    return settings.authorizer or (None if settings.has_keys else "lambda")


def variables(settings: Settings, given: Sequence[str]) -> dict[str, str]:
    """Everything `SLACKWATER_…` and `AWS_ENDPOINT_URL…` from `.env` and the environment, and what was `given` as NAME or NAME=VALUE.

    Raises SettingsError.
    """
    known = {**dotenv_values(DOTENV), **os.environ}
    told = {name: value for name, value in known.items() if value and name.startswith(_TOLD)}
    if (kind := authorizer_of(settings)) is not None:
        told["SLACKWATER_AUTHORIZER"] = kind
    told["SLACKWATER_PROJECT"] = str(settings.project.resolve())
    for item in given:
        name, separator, text = item.partition("=")
        value = text if separator else known.get(name)
        if value is None:
            raise SettingsError(
                f"--env {name}: the variable is not set; set it, or write --env {name}=VALUE."
            )
        told[name] = value
    return told


@asynccontextmanager
async def database_of(settings: Settings) -> AsyncIterator[dict[str, str]]:
    """The variables that name the database. Without one it is the embedded server, which runs until the end.

    On Lambda nobody starts a server, so it is done here, and its schema brought up to date, as `serve` does.
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
