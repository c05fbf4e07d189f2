"""The command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

cli = typer.Typer(no_args_is_help=True, add_completion=False, help="LangGraph runs that never die with their process.")


@cli.callback()
def _root() -> None: ...


@cli.command()
def serve(
    project: Annotated[Path | None, typer.Option()] = None,
    host: Annotated[str | None, typer.Option()] = None,
    port: Annotated[int | None, typer.Option()] = None,
    database_uri: Annotated[str | None, typer.Option()] = None,
) -> None:
    """Serve a LangGraph project."""
    from app.serve import main as run
    from app.settings import Settings

    run(Settings.load(project=project, host=host, port=port, database_uri=database_uri))


def main() -> None:
    cli()
