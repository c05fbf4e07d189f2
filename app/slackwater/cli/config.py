"""`slackwater config`: what of the key `gateway` of langgraph.json changes while processes run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slackwater.cli.options import AsJson, DatabaseUri, ProjectPath, print_json

if TYPE_CHECKING:
    from slackwater.postgres.pool import Row
    from slackwater.workspace.configuration.service import StoredConfiguration

cli = typer.Typer(
    help="What is laid over the key gateway of langgraph.json while processes run: models and limits.",
    no_args_is_help=True,
)

MOST_BYTES = 1024 * 1024

Change = Annotated[
    str,
    typer.Argument(
        metavar="CHANGE",
        help='JSON, such as \'{"uploads": {"max_files": 20}}\', the path of such a file, or - for stdin.',
    ),
]


@cli.command()
def show(database_uri: DatabaseUri = None, as_json: AsJson = False) -> None:
    """Show what is stored, its version, and why processes cannot use it."""
    from slackwater.cli.database import with_database
    from slackwater.settings import Settings
    from slackwater.workspace.configuration import service

    async def use(database: Any, _: Settings) -> tuple[StoredConfiguration, list[Row]]:
        return await service.read(database), await service.troubles(database)

    stored, troubles = with_database(database_uri, use)
    if as_json:
        print_json({**stored.shown, "troubles": troubles})
        return
    _print(stored)
    for trouble in troubles:
        typer.echo(_sentence(trouble))


@cli.command()
def check(
    change: Annotated[
        str | None, typer.Argument(metavar="[CHANGE]", help="As for set. Without it, what is stored.")
    ] = None,
    project: ProjectPath = None,
    database_uri: DatabaseUri = None,
) -> None:
    """Say whether a process could use it that had this project and this environment. Nothing is written."""
    from slackwater.cli.database import with_database
    from slackwater.project.gateway import laid_over
    from slackwater.project.project import Project
    from slackwater.settings import Settings
    from slackwater.workspace.configuration import service

    wanted = {} if change is None else _read(change)
    stored = with_database(database_uri, lambda database, _: service.read(database))
    read = Project.read(Settings.load(project=project, database_uri=database_uri).project)
    read.activate()
    service.usable(read.gateway, laid_over(stored.value, wanted))
    typer.echo("It can be used here.")


@cli.command("set")
def set_(
    change: Change,
    version: Annotated[
        int | None,
        typer.Option(help="Only if it still has this version, which `show` has shown."),
    ] = None,
    project: ProjectPath = None,
    database_uri: DatabaseUri = None,
    as_json: AsJson = False,
) -> None:
    """Lay a change over what is stored: what it does not name stays, and null gives a key back to langgraph.json.

    It is in force in all processes within 10 seconds. What makes no sense is refused, and nothing is written.
    """
    from slackwater.cli.database import with_database
    from slackwater.project.project import Project
    from slackwater.settings import Settings
    from slackwater.workspace.configuration import service

    wanted = _read(change)
    own = Project.read(Settings.load(project=project, database_uri=database_uri).project).gateway
    stored = with_database(
        database_uri, lambda database, _: service.change(database, own, wanted, version=version)
    )
    if as_json:
        print_json(stored.shown)
    else:
        _print(stored)


def _read(change: str) -> Mapping[str, Any]:
    """The change that an argument says. Raises SettingsError."""
    import sys

    import orjson

    from slackwater.errors import SettingsError

    try:
        if change.lstrip().startswith("{"):
            text = change.encode()
        elif change == "-":
            text = sys.stdin.buffer.read(MOST_BYTES + 1)
        else:
            with Path(change).open("rb") as file:
                text = file.read(MOST_BYTES + 1)
        value = orjson.loads(text)
    except OSError as error:
        raise SettingsError(f"{change} cannot be read: {error.strerror}.") from None
    except orjson.JSONDecodeError as error:
        raise SettingsError(
            f"The change is no JSON: line {error.lineno}, column {error.colno}: {error.msg}."
        ) from None
    if not isinstance(value, dict) or len(text) > MOST_BYTES:
        raise SettingsError(
            "The change must be a JSON object of at most 1 MiB, as gateway of langgraph.json."
        )
    return value


def _print(stored: StoredConfiguration) -> None:
    from datetime import UTC

    import orjson

    from slackwater.kit.printable import printable

    if not stored.version:
        typer.echo("Nothing is laid over langgraph.json.")
        return
    typer.echo(f"Version {stored.version}, of {stored.changed_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC:")
    lines = orjson.dumps(stored.value, option=orjson.OPT_INDENT_2).decode().splitlines()
    typer.echo("\n".join(printable(line) for line in lines))


def _sentence(trouble: Row) -> str:
    from slackwater.kit.printable import printable

    processes = "A process" if trouble["processes"] == 1 else f"{trouble['processes']} processes"
    return f"{processes} cannot use it, the last one {printable(trouble['process'])}: {printable(trouble['problem'])}"
