"""`slackwater limits`: what single owners may have and do, where it is not what the settings say."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from slackwater.cli.options import AsJson, DatabaseUri, print_json

cli = typer.Typer(
    help="Limits of single owners, which take precedence over those of the settings.", no_args_is_help=True
)

Owner = Annotated[
    str, typer.Argument(metavar="NAME", help="The owner: the name of their key, or of the caller.")
]


class Limit(StrEnum):
    """What can be limited; `slackwater.identity.limits` would take too long to import for `--help`."""

    REQUESTS_PER_MINUTE = "requests_per_minute"
    RUNNING = "running"
    PENDING = "pending"
    STREAMS = "streams"
    CRONS = "crons"
    FILE_BYTES = "file_bytes"


@cli.command("set")
def set_(
    name: Owner,
    requests_per_minute: Annotated[
        int | None, typer.Option(help="Requests that are answered in a minute; 0: no limit.")
    ] = None,
    running: Annotated[
        int | None, typer.Option(help="Runs that are worked on at a time; the others wait. 0: no limit.")
    ] = None,
    pending: Annotated[
        int | None, typer.Option(help="Runs that wait; one more is refused. 0: no limit.")
    ] = None,
    streams: Annotated[
        int | None, typer.Option(help="Streams that are open at a time; one more is refused. 0: no limit.")
    ] = None,
    crons: Annotated[int | None, typer.Option(help="Crons; one more is refused. 0: no limit.")] = None,
    file_bytes: Annotated[
        int | None,
        typer.Option(help="Bytes of all files; an upload beyond that is refused. 0: no limit."),
    ] = None,
    database_uri: DatabaseUri = None,
    as_json: AsJson = False,
) -> None:
    """Limit what an owner may have and do, in all processes together. Limits that are not given stay as they are.

    A limit of runs, crons or files holds at once; one of requests or streams within 10 seconds for an owner who had none, and at once for others.
    """
    from slackwater.cli.database import with_database
    from slackwater.errors import SettingsError
    from slackwater.identity.limits import service

    given = {
        Limit.REQUESTS_PER_MINUTE: requests_per_minute,
        Limit.RUNNING: running,
        Limit.PENDING: pending,
        Limit.STREAMS: streams,
        Limit.CRONS: crons,
        Limit.FILE_BYTES: file_bytes,
    }
    values = {limit.value: value for limit, value in given.items() if value is not None}
    try:
        row = with_database(database_uri, lambda database, _: service.set_(database, name, values))
    except ValueError as error:
        raise SettingsError(f"{error}.") from None
    if as_json:
        print_json(row)
    else:
        typer.echo(f"{name}: {_sentence(row)}")


@cli.command("list")
def list_(
    owner: Annotated[str | None, typer.Option(metavar="NAME", help="Only this owner's.")] = None,
    database_uri: DatabaseUri = None,
    as_json: AsJson = False,
) -> None:
    """List the owners who have limits of their own. For all others those of the settings apply."""
    from slackwater.cli.database import with_database
    from slackwater.identity.limits import service
    from slackwater.kit.printable import printable

    rows = with_database(database_uri, lambda database, _: service.list_(database, owner))
    if as_json:
        print_json(rows)
        return
    for row in rows:
        typer.echo(f"{printable(row['owner'])}: {_sentence(row)}")
    if not rows:
        typer.echo("No limits.")


@cli.command()
def unset(
    name: Owner,
    limits: Annotated[
        list[Limit] | None, typer.Argument(metavar="[LIMIT]…", help="Only these; by default all of them.")
    ] = None,
    database_uri: DatabaseUri = None,
    as_json: AsJson = False,
) -> None:
    """Take limits from an owner: those of the settings apply again."""
    from slackwater.cli.database import with_database
    from slackwater.errors import ExitCode
    from slackwater.identity.limits import service

    names = [limit.value for limit in limits or Limit]
    row = with_database(database_uri, lambda database, _: service.unset(database, name, names))
    if row is None:
        typer.echo(f"slackwater: {name} has no limits.", err=True)
        raise typer.Exit(ExitCode.FAILED)
    if as_json:
        print_json(row)
    else:
        typer.echo(f"{name}: {_sentence(row)}")


def _sentence(row: Mapping[str, Any]) -> str:
    own = [f"{limit} {row[limit] or 'without limit'}" for limit in Limit if row[limit] is not None]
    return ", ".join(own) or "as in the settings"
