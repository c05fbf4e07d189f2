"""`slackwater keys`."""

from __future__ import annotations

from typing import Annotated

import typer

cli = typer.Typer(help="API keys, which let callers from other machines in.", no_args_is_help=True)


@cli.callback()
def _keys() -> None: ...


@cli.command()
def new(
    name: Annotated[
        str, typer.Argument(help="The owner: everything created with the key belongs to this name.")
    ],
) -> None:
    """Create a key: print its secret, once, and the line for SLACKWATER_API_KEYS.

    Nothing is stored. Two keys with the same name are one owner, so that a key can
    be replaced without a gap.
    """
    from slackwater.errors import SettingsError
    from slackwater.identity.keys import new_key

    try:
        secret, key = new_key(name)
    except ValueError as error:
        raise SettingsError(f"{error}.") from None
    typer.echo(
        "The secret, which cannot be shown again. Clients send it as x-api-key (api_key= in the SDKs):\n"
    )
    typer.echo(f"  {secret}\n")
    typer.echo("For the server's settings (separate keys with commas):\n")
    typer.echo(f"  SLACKWATER_API_KEYS={key.name}:{key.sha256}")
