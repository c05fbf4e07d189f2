"""`slackwater audit`: straight on the database, so that it works when no process does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slackwater.cli.options import AsJson, DatabaseUri, print_json, print_table
from slackwater.identity.audit.actor import AuditAction, Via
from slackwater.kit.printable import printable

if TYPE_CHECKING:
    from slackwater.postgres.pool import Database
    from slackwater.settings import Settings


def audit(
    action: Annotated[
        list[AuditAction] | None, typer.Option(help="Only what has happened so; may be repeated.")
    ] = None,
    owner: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only what is this owner's, or was.")
    ] = None,
    by: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only what this caller has done, or was refused.")
    ] = None,
    days: Annotated[float | None, typer.Option(min=0, help="Only of so many last days.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many rows to list at most.")] = 50,
    database_uri: DatabaseUri = None,
    as_json: AsJson = False,
) -> None:
    """List who was refused, and who has cancelled, deleted or revoked something, newest first."""
    from slackwater.cli.database import with_database  # slow to import

    async def list_(database: Database, _: Settings) -> list[dict[str, Any]]:
        from slackwater.identity.audit import service

        return await service.list_(
            database, owner=owner, actor=by, actions=action or (), days=days, limit=limit
        )

    rows = with_database(database_uri, list_)
    if as_json:
        print_json(rows)
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("when", "what", "by", "owner", "id"):
        table.add_column(name, no_wrap=True)
    table.add_column("more", overflow="fold")
    for row in rows:
        when = f"{row['at'].astimezone():%Y-%m-%d %H:%M:%S}"
        told = (_by(row), row["owner"] or "", row["subject"] or "", _more(row))
        table.add_row(when, row["action"], *map(printable, told))
    print_table(table, "Nothing.")


def _by(row: Mapping[str, Any]) -> str:
    if row["via"] == Via.COMMAND:
        return "a command"
    who: str = row["actor"] or "unknown"
    return f"a token of {who}" if row["via"] == Via.TOKEN else who


def _more(row: Mapping[str, Any]) -> str:
    if row["action"] == AuditAction.REQUEST_REFUSED:
        return f"{row['status']} from {row['address']}, {row['count']} in a minute"
    return row["detail"] or ""
