"""The commands under one name, and how their failures leave: one sentence on stderr and an exit code."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from slackwater import __version__
from slackwater.cli import (
    audit,
    config,
    doctor,
    invoke,
    keys,
    lambda_,
    limits,
    migrate,
    owners,
    runs,
    serve,
    signing,
    users,
)
from slackwater.errors import ExitCode, SlackwaterError, StartError

EXIT_CODES = (
    "Exit codes: 0 done, or drained cleanly · 1 not found, or failed · 2 wrong setting or argument · "
    "3 database or schema · 4 a graph cannot be imported · 5 runs were left at the deadline · 130 forced."
)

# Typer keeps the line breaks of docstrings, but for the first paragraph: theirs are made for 80 columns.
cli = typer.Typer(
    name="slackwater",
    help="Serve LangGraph graphs. A run never dies with the process that was running it.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
cli.command()(serve.serve)
cli.command("lambda")(lambda_.lambda_)
cli.command()(invoke.invoke)
cli.command()(migrate.migrate)
cli.add_typer(runs.cli, name="runs")
cli.command()(doctor.doctor)
cli.add_typer(keys.cli, name="keys")
cli.add_typer(signing.cli, name="signing")
cli.command("token")(signing.token)
cli.command("audit")(audit.audit)
cli.add_typer(owners.cli, name="owners")
cli.add_typer(limits.cli, name="limits")
cli.add_typer(config.cli, name="config")
cli.add_typer(users.cli, name="users")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"slackwater {__version__}")
        raise typer.Exit


@cli.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    # Libraries' warnings would go to stderr between our own sentences; `serve` sends them to its log.
    logging.getLogger().addHandler(logging.NullHandler())


def main() -> None:
    """Run the command line, and leave with its exit code."""
    try:
        cli()
    except SlackwaterError as error:
        print(f"slackwater: {error.message}", file=sys.stderr)
        sys.exit(error.exit_code if isinstance(error, StartError) else ExitCode.FAILED)
