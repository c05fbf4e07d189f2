"""Options and outputs that several commands share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

ProjectPath = Annotated[
    Path | None,
    typer.Option(
        help="Folder that contains langgraph.json, or the file itself.  [SLACKWATER_PROJECT; default: .]"
    ),
]
DatabaseUri = Annotated[
    str | None,
    typer.Option(
        metavar="URI",
        help="Postgres, as postgresql://…; if unset, an embedded server in SLACKWATER_DATA_DIR.  "
        "[SLACKWATER_DATABASE_URI, DATABASE_URI, POSTGRES_URI, DATABASE_URL]",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def print_json(value: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
    """One indented JSON document on stdout; times in ISO 8601, ids as text."""
    import orjson

    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


PIPE_COLUMNS = 500


def print_table(table: Table, nothing: str) -> None:
    """The table, or `nothing` if it has no rows. Into a file or a pipe goes one line for each row, however long."""
    import sys

    from rich.console import Console

    # What an error says, or a note, is no markup.
    width = None if sys.stdout.isatty() else PIPE_COLUMNS
    console = Console(highlight=False, markup=False, emoji=False, width=width)
    console.print(table if table.rows else nothing)
