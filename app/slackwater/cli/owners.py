"""`slackwater owners`: straight on the database, so that it works when no process does."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from slackwater.cli.options import AsJson, DatabaseUri, print_json

if TYPE_CHECKING:
    from slackwater.postgres.pool import Database
    from slackwater.settings import Settings

cli = typer.Typer(help="All that belongs to one owner: export it, or erase it.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The owner, as `slackwater runs list` shows it.")]


@cli.command()
def export(name: Name, database_uri: DatabaseUri = None) -> None:
    """Print all that an owner has, as lines of JSON; the last line says how many there were.

    Threads and runs with their events, checkpoints with all values, assistants,
    crons, items of the store, and keys without their secrets.
    """
    _check(name)
    import sys

    from slackwater.cli.database import with_database

    async def write(database: Database, _: Settings) -> None:
        from slackwater.owners.export import export

        async for line in export(database, name):
            sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()

    with_database(database_uri, write)


@cli.command()
def erase(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    database_uri: DatabaseUri = None,
    as_json: AsJson = False,
) -> None:
    """Erase all that an owner has, for good.

    Their keys and crons go first, and what runs is ended. It may be repeated after it
    was stopped. Keys in the settings stay valid: take them out before.
    """
    _check(name)
    if not yes:
        typer.confirm(f"Erase all that belongs to {name!r}, for good?", abort=True, err=True)
    from slackwater.cli.database import with_database

    async def carry_out(database: Database, _: Settings) -> Counter[str]:
        from slackwater.owners.erase import erase

        return await erase(database, name)

    gone = with_database(database_uri, carry_out)
    if as_json:
        print_json({"owner": name, "erased": dict(gone)})
        return
    for table, count in gone.items():
        typer.echo(f"  {table:<20}{count}")
    typer.echo("Erased." if gone.total() else "There was nothing.")


def _check(name: str) -> None:
    """Raises BadParameter for what is no string."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise typer.BadParameter("The name is not UTF-8.", param_hint="NAME") from None
