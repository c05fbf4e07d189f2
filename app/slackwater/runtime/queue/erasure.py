"""What a thread or a run owns, table by table, and the statements that delete it.

Every table with a column `thread_id` or `run_id` is in TABLES, unless a foreign key with `on delete cascade` deletes its
rows. A test compares with the database's catalogue, and erases a row of each. There are few foreign keys on purpose: they
would cost every event and every checkpoint a look at its run, whose row many transactions have locked.

Statements repeat nothing and bound nothing: what may be large, a stateless run's events, is deleted before (`retention`).
"""

from __future__ import annotations

from enum import Enum
from typing import Literal, NamedTuple


class Lifetime(Enum):
    """With what the rows of a table go."""

    RUN = "run"
    """With their run, or with its thread."""
    THREAD = "thread"
    """With their thread. Their run may be gone before."""
    OWN = "own"
    """With neither: they have an end of their own."""


class Table(NamedTuple):
    """A table with rows of a thread, of a run, or of both."""

    name: str
    lifetime: Lifetime
    thread_id: Literal["uuid", "text"] | None = None
    """The type of this column, by which rows are found. None: they are found by their run, there is no index for threads."""


TABLES = (
    # A hold of a thread that is no run leaves events, too, which are the thread's.
    Table("slackwater.run_events", Lifetime.RUN, "uuid"),
    Table("slackwater.base_writes", Lifetime.RUN),
    # A reader who is sent away just now may leave one behind: it is forgotten with the next one who is.
    Table("slackwater.cut_readers", Lifetime.RUN),
    # A second delivery must not start what has run and is gone. Only whoever deletes a whole thread means that, too.
    Table("slackwater.idempotency_keys", Lifetime.THREAD),
    # A rollback, or the deletion of a run, takes the run's own out of them (`cancel`).
    Table("checkpoints", Lifetime.THREAD, "text"),
    Table("checkpoint_blobs", Lifetime.THREAD, "text"),
    Table("checkpoint_writes", Lifetime.THREAD, "text"),
    # What is to be told of a run is told of one that is gone, too. It goes when it is delivered, or given up for long.
    Table("slackwater.webhooks", Lifetime.OWN),
)


def _of_runs(which: str) -> list[str]:
    """Statements that delete what the runs whose ids `which` selects own, but for their own rows."""
    # An array, so that each table is searched with its index, however many rows are expected.
    return [
        f"delete from {table.name} where run_id = any(array({which}))"
        for table in TABLES
        if table.lifetime is Lifetime.RUN
    ]


def runs_and_theirs(condition: str) -> str:
    """The statement that deletes the runs `r` that meet the condition, with all that they own; it returns their ids.

    For runs that nobody writes for any more: what comes in meanwhile is not seen.
    """
    return _along(
        f"delete from slackwater.runs r where {condition} returning r.run_id",
        _of_runs("select run_id from gone"),
    )


def threads(which: str) -> list[str]:
    """Statements that delete the threads whose ids `which` selects, with all that they and their runs own.

    Each of them selects again, under the locks of the threads' rows; the last one returns the ids.
    """
    return [
        # Before everything that a run writes: a write in flight holds its run's row, is waited for here, and what it
        # wrote is seen by the statements below. A later one finds its fence gone.
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
    """The statement that deletes the threads `t` that meet the condition, with all that they own; it returns their ids.

    They must not have a run any more. The key of one that they had is kept until its day is over.
    """
    return _along(
        f"delete from slackwater.threads t where {condition} returning t.thread_id",
        _of_threads("select thread_id from gone"),
    )


def _of_threads(which: str) -> list[str]:
    return [
        f"delete from {table.name} where thread_id = any(array(select x.thread_id::{table.thread_id} from ({which}) x))"
        for table in TABLES
        if table.thread_id is not None and table.lifetime is not Lifetime.OWN
    ]


def _along(deletion: str, statements: list[str]) -> str:
    """One statement: `deletion`, whose rows the others know as `gone`, and which it returns."""
    others = "".join(f",\nothers_{n} as ({statement})" for n, statement in enumerate(statements))
    return f"with gone as ({deletion}){others}\nselect * from gone"
