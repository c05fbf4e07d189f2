"""`slackwater signing`: the keys that sign tokens, straight in the database. `slackwater token`: one that they sign."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slackwater.cli.options import AsJson, DatabaseUri, print_json, print_table

if TYPE_CHECKING:
    from slackwater.postgres.pool import Database
    from slackwater.settings import Settings

cli = typer.Typer(help="Keys that sign tokens, which all processes share.", no_args_is_help=True)


class TokenScope(StrEnum):
    """What a token may be used for; `slackwater.identity.internal` would take too long to import for `--help`."""

    READ = "read"
    RUN = "run"


@cli.command("list")
def list_(database_uri: DatabaseUri = None, as_json: AsJson = False) -> None:
    """List the keys that are valid, newest first. Their secrets are not shown."""
    from slackwater.cli.database import with_database  # slow to import
    from slackwater.identity.signing import rotation

    rows = with_database(database_uri, lambda database, _: rotation.list_(database))
    if as_json:
        print_json(rows)
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("key", "made", "state", "encrypted by"):
        table.add_column(column, no_wrap=True)
    signs = next((row["kid"] for row in rows if row["signs"]), None)
    for row in rows:
        table.add_row(
            row["kid"], _minute(row["created_at"]), _state(row, signs), row["sealed_by"] or "nothing"
        )
    print_table(table, "No keys: the first token that is signed makes one.")


@cli.command()
def rotate(
    now: Annotated[
        bool,
        typer.Option(
            "--now",
            help="In an emergency: refuse all tokens that were signed before, in every process within 10 seconds. All users "
            "have to log in again.",
        ),
    ] = False,
    database_uri: DatabaseUri = None,
    as_json: AsJson = False,
) -> None:
    """Make a new key, which signs from 10 seconds later on. What older ones have signed stays valid until it expires."""
    from slackwater.cli.database import with_database
    from slackwater.identity.signing import rotation

    async def use(database: Database, settings: Settings) -> dict[str, Any]:
        from slackwater.aws.secrets import encryption_of

        return await rotation.rotate(database, await encryption_of(settings), now=now)

    row = with_database(database_uri, use)
    if as_json:
        print_json(row)
    elif now:
        typer.echo(f"{row['kid']} signs. Tokens that were signed before are refused within 10 seconds.")
    else:
        typer.echo(f"{row['kid']} signs in 10 seconds. Tokens that were signed before stay valid.")


def token(
    name: Annotated[str, typer.Argument(metavar="OWNER", help="Whom the token's holder calls as.")],
    seconds: Annotated[float, typer.Option(help="For how long it is valid; at most 300.")] = 60.0,
    scope: Annotated[
        TokenScope,
        typer.Option(
            help="What it may be used for. read: whatever changes nothing; run: all that clients do."
        ),
    ] = TokenScope.RUN,
    database_uri: DatabaseUri = None,
    as_json: AsJson = False,
) -> None:
    """Print a token with which a script calls as one owner, for a minute. It is sent as Authorization: Bearer TOKEN."""
    from slackwater.cli.database import with_database
    from slackwater.errors import SettingsError
    from slackwater.identity import internal
    from slackwater.identity.audit import queries as audit
    from slackwater.identity.audit.actor import AuditAction
    from slackwater.identity.scopes import KeyScope

    async def use(database: Database, settings: Settings) -> internal.Issued:
        from slackwater.aws.secrets import encryption_of
        from slackwater.identity.signing.service import Signing

        signing = Signing(database, await encryption_of(settings))
        try:
            await signing.check()
            issued = await internal.issue(signing, name, seconds=seconds, scope=KeyScope(scope))
        finally:
            await signing.stop()
        # Before anybody has it.
        told = (str(issued.token_id), f"{scope.value}, {seconds:g} s")
        await audit.add_command(database, AuditAction.TOKEN_ISSUED, *told, owner=name)
        return issued

    try:
        issued = with_database(database_uri, use)
    except ValueError as error:
        raise SettingsError(f"{error}.") from None
    if as_json:
        print_json({"token": issued.token, "token_id": issued.token_id, "owner": name, "scope": scope.value})
    else:
        typer.echo(issued.token)


def _state(row: Mapping[str, Any], signs: str | None) -> str:
    if row["kid"] == signs:
        return "signs"
    if not row["signs"]:
        return f"signs from {row['signs_from'].astimezone():%H:%M:%S}"
    return f"verifies until {_minute(row['valid_until'])}"


def _minute(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"
