"""`slackwater users`: people who log in, straight on the database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from slackwater.cli.options import AsJson, DatabaseUri, print_json, print_table

if TYPE_CHECKING:
    from slackwater.identity.accounts.account import Account
    from slackwater.postgres.pool import Database
    from slackwater.settings import Settings

T = TypeVar("T")

cli = typer.Typer(
    help="People who log in, to servers with SLACKWATER_ACCOUNTS=true.",
    no_args_is_help=True,
)

Email = Annotated[
    str, typer.Argument(metavar="EMAIL", help="Their address; the case of its letters is ignored.")
]
SHOWN_ONCE = "The password, which cannot be shown again, and which they are asked to change:"


@cli.command()
def create(
    email: Email,
    admin: Annotated[bool, typer.Option("--admin", help="They may do everything.")] = False,
    database_uri: DatabaseUri = None,
    as_json: AsJson = False,
) -> None:
    """Create an account with a password that nobody has chosen: print it, once."""
    from slackwater.errors import SettingsError
    from slackwater.identity.accounts import service
    from slackwater.identity.accounts.account import Role
    from slackwater.identity.accounts.errors import InvalidEmail

    role = Role.ADMIN if admin else Role.USER
    try:
        password, account = _with_database(
            database_uri, lambda database, _: service.create(database, email, role)
        )
    except InvalidEmail as error:
        raise SettingsError(error.message) from None
    _print_password(password, account, as_json)


@cli.command()
def reset(email: Email, database_uri: DatabaseUri = None, as_json: AsJson = False) -> None:
    """Give somebody another password: print it, once.

    Their sessions end within 10 seconds, and so does a lock-out after wrong passwords.
    """
    from slackwater.identity.accounts import service

    found = _with_database(database_uri, lambda database, _: service.reset(database, email))
    if found is None:
        _unknown(email)
    _print_password(*found, as_json)


@cli.command("list")
def list_(database_uri: DatabaseUri = None, as_json: AsJson = False) -> None:
    """List all users, the first one first."""
    from slackwater.identity.accounts import service

    rows = _with_database(database_uri, lambda database, _: service.list_(database))
    if as_json:
        print_json(rows)
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("email", "role", "state", "sessions", "last login", "owner"):
        table.add_column(column, no_wrap=True)
    for row in rows:
        last_login = f"{row['last_login_at']:%Y-%m-%d %H:%M}" if row["last_login_at"] else "never"
        table.add_row(row["email"], row["role"], _state(row), str(row["sessions"]), last_login, row["owner"])
    print_table(table, "No users.")


@cli.command()
def disable(email: Email, database_uri: DatabaseUri = None, as_json: AsJson = False) -> None:
    """Let somebody in no more: every process refuses their sessions within 10 seconds, and ends what is open with them."""
    _set_disabled(email, True, database_uri, as_json)


@cli.command()
def enable(email: Email, database_uri: DatabaseUri = None, as_json: AsJson = False) -> None:
    """Let somebody in again who was disabled. Their sessions of before do not come back."""
    _set_disabled(email, False, database_uri, as_json)


@cli.command()
def setup(
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where browsers reach the server.  [default: http://SLACKWATER_HOST:SLACKWATER_PORT]",
        ),
    ] = None,
    database_uri: DatabaseUri = None,
    as_json: AsJson = False,
) -> None:
    """Print a link by which somebody becomes the first administrator.

    Links that were printed before stay valid, until somebody has used one.
    """
    from slackwater.errors import ExitCode
    from slackwater.identity.accounts import service
    from slackwater.identity.accounts.setup import setup_link

    async def make(database: Database, settings: Settings) -> str | None:
        token = await service.new_setup_token(database)
        return None if token is None else setup_link(url or settings.own_url, token)

    link = _with_database(database_uri, make)
    if link is None:
        typer.echo("slackwater: there is an administrator: `slackwater users list` shows who.", err=True)
        raise typer.Exit(ExitCode.FAILED)
    if as_json:
        print_json({"url": link})
    else:
        typer.echo(link)


def _set_disabled(email: str, disabled: bool, database_uri: str | None, as_json: bool) -> None:
    from slackwater.identity.accounts import service

    account = _with_database(
        database_uri, lambda database, _: service.set_disabled(database, email, disabled)
    )
    if account is None:
        _unknown(email)
    if as_json:
        print_json(_shown(account))
    else:
        typer.echo(f"{'Disabled' if account.disabled else 'Enabled'}: {account.email}")


def _print_password(password: str, account: Account, as_json: bool) -> None:
    if as_json:
        print_json({**_shown(account), "password": password})
        return
    typer.echo(f"{SHOWN_ONCE}\n")
    typer.echo(f"  {password}\n")
    typer.echo(f"They log in as {account.email}, and their things belong to {account.owner}")


def _shown(account: Account) -> dict[str, Any]:
    return {
        "user_id": account.user_id,
        "owner": account.owner,
        "email": account.email,
        "role": account.role.value,
        "needs_setup": account.needs_setup,
        "disabled": account.disabled,
    }


def _state(row: Mapping[str, Any]) -> str:
    if row["disabled_at"] is not None:
        return f"disabled {row['disabled_at']:%Y-%m-%d %H:%M}"
    return "to choose a password" if row["needs_setup"] else "active"


def _unknown(email: str) -> NoReturn:
    from slackwater.errors import ExitCode
    from slackwater.kit.printable import printable

    typer.echo(f"slackwater: there is no user {printable(email)}.", err=True)
    raise typer.Exit(ExitCode.FAILED)


def _with_database(uri: str | None, use: Callable[[Database, Settings], Awaitable[T]]) -> T:
    from slackwater.cli.database import with_database  # slow to import

    return with_database(uri, use)
