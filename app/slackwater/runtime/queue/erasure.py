"""What a thread or a run owns, table by table, and the statements that delete it.

Every table with a column `thread_id` or `run_id` is in TABLES, unless a foreign key with `on delete cascade` deletes its
rows. A test compares TABLES with the database's catalogue, and erases a row of each. There are few foreign keys on purpose:
each event and checkpoint would have to look up its run, whose row is often locked.

The statements are not batched: what may be large, such as a stateless run's events, is deleted before (`retention`).
"""

from __future__ import annotations

from enum import Enum
from typing import Literal, NamedTuple


class Lifetime(Enum):
    """What the rows of a table are deleted with."""

    RUN = "run"
    """Their run or their thread."""
    THREAD = "thread"
    """Their thread; they may outlive their run."""
    OWN = "own"
    """Neither: they expire by themselves."""


class Table(NamedTuple):
    """A table whose rows belong to a thread, a run, or both."""

    name: str
    lifetime: Lifetime
    thread_id: Literal["uuid", "text"] | None = None
    """The type of the column by which rows are found. None: rows are found by run, since there is no index on the thread."""
    owned: bool = False
    """Whether each row says whose it is: another's, from before there was the thread, is not the thread's."""


TABLES = (
    # State updates leave events, too, which belong to the thread and not to a run.
    Table("slackwater.run_events", Lifetime.RUN, "uuid"),
    Table("slackwater.messages", Lifetime.RUN, "uuid"),
    # Tokens are spent, although their run was rolled back or deleted.
    Table("slackwater.token_usage", Lifetime.THREAD, "uuid"),
    Table("slackwater.base_writes", Lifetime.RUN),
    # A reader who is cut off at this moment may leave a row behind, which the next one to be cut off removes.
    Table("slackwater.cut_readers", Lifetime.RUN),
    # Kept after the run, so that a second delivery does not start a deleted run again. Deleting the thread ends that.
    Table("slackwater.idempotency_keys", Lifetime.THREAD),
    # A rollback, or the deletion of a run, removes the run's own rows (`cancel`).
    Table("checkpoints", Lifetime.THREAD, "text"),
    Table("checkpoint_blobs", Lifetime.THREAD, "text"),
    Table("checkpoint_writes", Lifetime.THREAD, "text"),
    # Their blobs go with the sweep.
    Table("slackwater.files", Lifetime.THREAD, "uuid", owned=True),
    # A webhook is sent even after its run is deleted. Rows go after delivery, or long after giving up.
    Table("slackwater.webhooks", Lifetime.OWN),
    # What was said is remembered even after its thread is deleted, as that of a stateless run is at once.
    Table("slackwater.memory_updates", Lifetime.OWN),
    # A skill's history only says from which thread it was installed.
    Table("slackwater.skill_history", Lifetime.OWN),
    # A conversation whose thread is deleted begins anew.
    Table("slackwater.channel_threads", Lifetime.THREAD, "uuid"),
    # What has come in comes in once, also after its thread is deleted.
    Table("slackwater.channel_deliveries", Lifetime.OWN),
)


THEIRS = "using slackwater.threads theirs"
ARE_THEIRS = "and theirs.thread_id = {0}.thread_id and theirs.owner = {0}.owner"
"""Of a table whose rows say whose they are, those that belong to their thread, whose row is still there."""


def _of_runs(which: str) -> list[str]:
    """Statements that delete everything owned by the runs whose ids `which` selects, except the runs themselves."""
    # An array, so that each table is searched by its index, whatever the row estimate.
    return [
        f"delete from {table.name} where run_id = any(array({which}))"
        for table in TABLES
        if table.lifetime is Lifetime.RUN
    ]


def runs_and_theirs(condition: str) -> str:
    """The statement that deletes the runs `r` that meet the condition, with everything they own; it returns their ids.

    Nobody may still write for these runs: concurrent writes are missed.
    """
    return _along(
        f"delete from slackwater.runs r where {condition} returning r.run_id",
        _of_runs("select run_id from gone"),
    )


def threads(which: str) -> list[str]:
    """Statements that delete the threads whose ids `which` selects, with everything that they and their runs own.

    Each selects again, under the locks on the threads' rows; the last one returns the ids.
    """
    return [
        # Runs first: this waits for writes in flight, which lock their run's row, so that the statements below see what
        # they wrote. Later writes find their fence gone.
        f"""with gone as (delete from slackwater.runs where thread_id = any(array({which})) returning run_id)
            select set_config('slackwater.erased', coalesce(array_agg(run_id), '{{}}')::text, true) from gone""",
        *(
            f"""delete from {table.name} o using unnest(current_setting('slackwater.erased')::uuid[]) as gone (run_id)
                 where o.run_id = gone.run_id"""
            for table in TABLES
            if table.thread_id is None and table.lifetime is not Lifetime.OWN
        ),
        *_of_threads(which),
        f"delete from slackwater.threads where thread_id = any(array({which})) returning thread_id",
    ]


def threads_without_runs(condition: str) -> str:
    """The statement that deletes the threads `t` that meet the condition, with everything they own; it returns their ids.

    They must not have runs any more.
    """
    return _along(
        f"delete from slackwater.threads t where {condition} returning t.thread_id",
        _of_threads("select thread_id from gone"),
    )


def _of_threads(which: str) -> list[str]:
    return [
        f"""delete from {table.name} {THEIRS if table.owned else ""}
            where {table.name}.thread_id = any(array(select x.thread_id::{table.thread_id} from ({which}) x))
              {ARE_THEIRS.format(table.name) if table.owned else ""}"""
        for table in TABLES
        if table.thread_id is not None and table.lifetime is not Lifetime.OWN
    ]


def _along(deletion: str, statements: list[str]) -> str:
    """One statement that runs `deletion`, provides its rows to `statements` as `gone`, and returns them."""
    others = "".join(f",\nothers_{n} as ({statement})" for n, statement in enumerate(statements))
    return f"with gone as ({deletion}){others}\nselect * from gone"
