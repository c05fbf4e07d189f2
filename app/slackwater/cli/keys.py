"""`slackwater keys`: those for the settings, and those in the database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from slackwater.cli.options import AsJson, DatabaseUri, print_json, print_table

if TYPE_CHECKING:
    from slackwater.postgres.pool import Database

T = TypeVar("T")

cli = typer.Typer(help="API keys, which let callers from other machines in.", no_args_is_help=True)

Owner = Annotated[
    str,
    typer.Argument(metavar="NAME", help="The owner: everything created with the key belongs to this name."),
]
SHOWN_ONCE = "The secret, which cannot be shown again. Clients send it as x-api-key (api_key= in the SDKs):"


class Scope(StrEnum):
    """What a key may be used for; `slackwater.identity.scopes` would take too long to import for `--help`."""

    READ = "read"
    RUN = "run"
    METRICS = "metrics"
    ADMIN = "admin"


@cli.callback()
def _keys() -> None: ...


@cli.command()
def new(name: Owner) -> None:
    """Create a key for the settings: print its secret, once, and the line for SLACKWATER_API_KEYS.

    Nothing is stored. Two keys with the same name are one owner, so that a key can
    be replaced without a gap.
    """
    from slackwater.errors import SettingsError
    from slackwater.identity.keys import new_key

    try:
        secret, key = new_key(name)
    except ValueError as error:
        raise SettingsError(f"{error}.") from None
    typer.echo(f"{SHOWN_ONCE}\n")
    typer.echo(f"  {secret}\n")
    typer.echo("For the server's settings (separate keys with commas):\n")
    typer.echo(f"  SLACKWATER_API_KEYS={key.name}:{key.sha256}")


@cli.command()
def create(
    name: Owner,
    scope: Annotated[
        list[Scope] | None,
        typer.Option(
            help="What the key may be used for; may be repeated. read: whatever changes nothing; run: all that clients do; "
            "metrics: /metrics; admin: everything.  [default: run]"
        ),
    ] = None,
    days: Annotated[float | None, typer.Option(min=0, help="When it expires; if unset, never.")] = None,
    note: Annotated[str | None, typer.Option(help="What it is for, to be listed.")] = None,
    database_uri: DatabaseUri = None,
    as_json: AsJson = False,
) -> None:
    """Create a key in the database, for servers with SLACKWATER_DATABASE_KEYS=true: print its secret, once."""
    from slackwater.errors import SettingsError
    from slackwater.identity.scopes import KeyScope
    from slackwater.identity.stored_keys import service

    scopes = {KeyScope(each) for each in scope or [Scope.RUN]}
    try:
        secret, row = _with_database(
            database_uri, lambda database: service.create(database, name, scopes, days=days, note=note)
        )
    except ValueError as error:
        raise SettingsError(f"{error}.") from None
    if as_json:
        print_json({**row, "secret": secret})
        return
    typer.echo(f"{SHOWN_ONCE}\n")
    typer.echo(f"  {secret}\n")
    typer.echo(f"To revoke it: slackwater keys revoke {row['key_id']}")


@cli.command("list")
def list_(
    owner: Annotated[str | None, typer.Option(metavar="NAME", help="Only this owner's.")] = None,
    database_uri: DatabaseUri = None,
    as_json: AsJson = False,
) -> None:
    """List the keys in the database, newest first. Their secrets are not stored."""
    from slackwater.identity.stored_keys import service

    rows = _with_database(database_uri, lambda database: service.list_(database, owner))
    if as_json:
        print_json(rows)
        return
    from rich.table import Table

    from slackwater.kit.printable import printable

    table = Table(box=None, pad_edge=False)
    for column in ("key", "begins with", "owner", "scopes", "last used", "state", "note"):
        table.add_column(column, no_wrap=True)
    for row in rows:
        last_used = f"{row['last_used_at']:%Y-%m-%d %H:%M}" if row["last_used_at"] else "never"
        scopes, note = ", ".join(row["scopes"]), printable(row["note"] or "")
        table.add_row(str(row["key_id"]), row["prefix"], row["owner"], scopes, last_used, _state(row), note)
    print_table(table, "No keys.")


@cli.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID")],
    database_uri: DatabaseUri = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a key in the database: every process refuses it within 10 seconds, and ends what is open with it."""
    from slackwater.errors import ExitCode, Invalid
    from slackwater.identity.stored_keys import service
    from slackwater.kit.ids import parse_uuid

    try:
        parsed = parse_uuid(key_id, "key")
    except Invalid as error:
        raise typer.BadParameter(error.message) from None
    row = _with_database(database_uri, lambda database: service.revoke(database, parsed))
    if row is None:
        typer.echo(f"slackwater: there is no key {parsed}.", err=True)
        raise typer.Exit(ExitCode.FAILED)
    if as_json:
        print_json(row)
    else:
        typer.echo(f"Revoked: {row['prefix']}… of {row['owner']}")


def _state(row: Mapping[str, Any]) -> str:
    expires: datetime | None = row["expires_at"]
    if row["revoked_at"] is not None:
        return f"revoked {row['revoked_at']:%Y-%m-%d %H:%M}"
    if expires is None:
        return "valid"
    from datetime import UTC

    return f"{'expired' if expires <= datetime.now(UTC) else 'expires'} {expires:%Y-%m-%d %H:%M}"


def _with_database(uri: str | None, use: Callable[[Database], Awaitable[T]]) -> T:
    from slackwater.cli.database import with_database  # slow to import

    return with_database(uri, lambda database, _: use(database))
