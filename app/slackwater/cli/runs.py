"""`slackwater runs`: straight on the database, so that it works when no process does."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from slackwater.cli.options import AsJson, DatabaseUri, print_json, print_table
from slackwater.errors import ExitCode
from slackwater.kit.printable import printable

if TYPE_CHECKING:
    from slackwater.postgres.pool import Database

cli = typer.Typer(
    help="List, inspect and cancel runs, whichever process is executing them, if any.", no_args_is_help=True
)

RunId = Annotated[str, typer.Argument(metavar="RUN_ID")]
WAIT_POLL_SECONDS = 0.1


class Status(StrEnum):
    """The statuses that the API shows; `slackwater.runtime.queue.states` would take too long to import for `--help`."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCESS = "success"
    ERROR = "error"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"


ACTIVE = frozenset({Status.PENDING, Status.RUNNING})


class Action(StrEnum):
    """What is to become of a cancelled run."""

    INTERRUPT = "interrupt"
    ROLLBACK = "rollback"


@cli.command("list")
def list_(
    status: Annotated[
        list[Status] | None, typer.Option(help="Only runs with this status; may be repeated.")
    ] = None,
    thread: Annotated[str | None, typer.Option(metavar="THREAD_ID", help="Only runs of this thread.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many runs to list at most.")] = 20,
    database_uri: DatabaseUri = None,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first."""
    rows = _with_database(
        database_uri, lambda database, _: _list(database, status or [], _uuid(thread, "thread"), limit)
    )
    if as_json:
        print_json(rows)
        return
    from datetime import UTC

    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("run", "graph", "principal", "age"):
        table.add_column(name, no_wrap=True)
    table.add_column("state", overflow="fold")
    now = datetime.now(UTC)
    for row in rows:
        age = _age((now - row["created_at"]).total_seconds())
        table.add_row(str(row["run_id"]), row["graph_id"], printable(row["principal"]), age, describe(row))
    print_table(table, "No runs.")


@cli.command()
def show(run_id: RunId, database_uri: DatabaseUri = None, as_json: AsJson = False) -> None:
    """Show one run: its state, its owner, how often it was handed over, and why it last stopped."""
    row = _with_database(database_uri, lambda database, _: _find(database, run_id))
    if as_json:
        print_json(row)
        return
    typer.echo(describe(row))
    for name, value in row.items():
        if value is not None and name not in ("lease_seconds", "delayed"):
            typer.echo(f"  {name:<20}{_text(value)}")


@cli.command()
def cancel(
    run_id: RunId,
    action: Annotated[
        Action,
        typer.Option(
            help="interrupt keeps what the run has finished; rollback deletes the run and restores its thread."
        ),
    ] = Action.INTERRUPT,
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long to wait for the run to end.")
    ] = 0,
    database_uri: DatabaseUri = None,
    as_json: AsJson = False,
) -> None:
    """Cancel a run that is pending, handed over or running.

    The request is stored, and the first one wins. A run that no process executes
    ends at once, a live one within a second, and one whose process is dead at the
    first sweep after its lease expires.
    """
    answer = _with_database(database_uri, lambda database, _: _cancel(database, run_id, action, wait))
    if as_json:
        print_json(answer)
    else:
        typer.echo(answer["message"])
    if wait and not answer["ended"]:
        raise typer.Exit(ExitCode.FAILED)


def describe(row: Mapping[str, Any]) -> str:
    """What a run is doing, in one sentence."""
    status, lease = row["status"], row["lease_seconds"]
    attempt = f"attempt {row['attempt']}" + (
        f", {_times(row['handovers'])} handed over" if row["handovers"] else ""
    )
    match status:
        case "running" if lease is not None and lease < 0:
            state = f"running, but the lease of {row['owner']} expired {-lease:.0f} s ago: the next sweep takes the run over"
        case "running":
            state = f"running in {row['owner']} ({attempt}; lease {lease or 0:.0f} s)"
        case "pending" if row["stopped"]:
            state = f"pending: handed over, {row['stopped']} ({row['reason']}), resumes in the next process ({attempt})"
        case "pending" if row["delayed"]:
            state = f"pending until {row['available_at'].astimezone():%Y-%m-%d %H:%M:%S}"
        case "pending":
            state = "pending: waiting for its turn on the thread, or for a process with capacity"
        case "error" | "timeout" if row["error"]:
            state = f"{status} ({attempt}): {row['error'].get('error')}: {row['error'].get('message')}"
        case "interrupted":
            state = f"interrupted ({attempt}): {row['cancel_reason'] or row['reason']}"
        case _:
            state = f"{status} ({attempt})"
    if row["cancel_action"] and status in ACTIVE:
        state += f"; cancellation requested ({row['cancel_action']})"
    return printable(state)


def _age(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone().isoformat(sep=" ", timespec="milliseconds")
    return printable(value)


def _with_database(uri: str | None, use: Any) -> Any:
    from slackwater.cli.database import with_database  # slow to import

    return with_database(uri, use)


def _uuid(text: str | None, what: str) -> UUID | None:
    """Raises SettingsError, as for every wrong argument."""
    from slackwater.errors import Invalid, SettingsError
    from slackwater.kit.ids import parse_uuid

    try:
        return parse_uuid(text, what) if text is not None else None
    except Invalid as error:
        raise SettingsError(f"{error.message}, not {text!r}.") from None


async def _list(
    database: Database, statuses: list[Status], thread_id: UUID | None, limit: int
) -> list[dict[str, Any]]:
    from slackwater.cli import queries

    return await queries.list_(
        database, statuses=[status.value for status in statuses], thread_id=thread_id, limit=limit
    )


async def _find(database: Database, run_id: str) -> dict[str, Any]:
    """Raises NotFound."""
    from slackwater.cli import queries
    from slackwater.errors import NotFound

    wanted = _uuid(run_id, "run")
    assert wanted is not None
    row = await queries.find(database, wanted)
    if row is None:
        raise NotFound(f"There is no run {run_id}, or it has been deleted.")
    return row


async def _cancel(database: Database, run_id: str, action: Action, wait: float) -> dict[str, Any]:
    """What became of it: `run_id`, `ended`, `status` (None: deleted by a rollback) and `message`."""
    from slackwater.cli import queries
    from slackwater.errors import Conflict
    from slackwater.identity.audit.actor import COMMAND
    from slackwater.runtime.queue import cancel

    row = await _find(database, run_id)
    if row["status"] not in ACTIVE:
        raise Conflict(f"Run {run_id} has already ended: {describe(row)}.")
    cancelled = await cancel.cancel(
        database,
        owner=row["principal"],
        thread_id=row["thread_id"],
        run_ids=[row["run_id"]],
        action=cancel.CancelAction(action.value),
        reason="cancelled with `slackwater runs cancel`",
        actor=COMMAND,
    )
    if cancelled.ended and row["attempt"]:
        await queries.leave_to_sweep(database, row["thread_id"])
    after = await _ended(database, row["run_id"], wait)
    if after is None:
        message = "Rolled back: the run is deleted and its thread restored."
    elif after["status"] not in ACTIVE:
        message = f"Ended: {describe(after)}."
    elif (after["lease_seconds"] or 0) < 0:
        message = "Cancellation requested. The process that executed the run is gone: the next sweep by any process ends it."
    else:
        message = (
            f"Cancellation requested. {after['owner']} ends the run within a second; if that process is gone, another "
            f"one does when the lease expires ({after['lease_seconds'] or 0:.0f} s)."
        )
    return {
        "run_id": row["run_id"],
        "ended": after is None or after["status"] not in ACTIVE,
        "status": after and after["status"],
        "message": message,
    }


async def _ended(database: Database, run_id: UUID, seconds: float) -> dict[str, Any] | None:
    """The run's row when it has ended, or as it is after `seconds`; None if it is gone."""
    import asyncio
    import time

    from slackwater.cli import queries

    deadline = time.monotonic() + seconds
    while True:
        row = await queries.find(database, run_id)
        if row is None or row["status"] not in ACTIVE or time.monotonic() >= deadline:
            return row
        await asyncio.sleep(WAIT_POLL_SECONDS)
