"""What a database that is away, restarting, or handing over to another server looks like to psycopg."""

from __future__ import annotations

from enum import Enum

import psycopg
from psycopg.errors import PipelineAborted, ReadOnlySqlTransaction
from psycopg_pool import PoolClosed, PoolTimeout

READ_ONLY_SQL_TRANSACTION = "25006"
SESSION_ENDED = ("57P", "25P03", "25P04", "53300")
"""Operator intervention (a shutdown, a crash, `cannot connect now`), limits of transactions, too many sessions."""
CONNECTION_EXCEPTION = "08"
PROGRAM_LIMIT_EXCEEDED = "54"


class Trouble(Enum):
    """What is wrong with a connection, whatever the statement was: none of it says anything about a run."""

    ENDED = "ended"
    """The server has ended this session. It may have nothing against others."""
    LOST = "lost"
    """It broke without a word, or says nothing any more: those that were opened with it may be as dead."""
    READ_ONLY = "read_only"
    """The server answers and takes no writes: it has become a replica, or is about to. So do all that lead there."""


class Unfit(psycopg.OperationalError):
    """The connection cannot be used for what its statement was to do; nothing of that was done."""

    def __init__(self, error: psycopg.Error, trouble: Trouble) -> None:
        super().__init__(str(error))
        self.sqlstate = error.sqlstate
        self.trouble = trouble


class LimitExceeded(psycopg.DataError):
    """The statement has something that is larger than Postgres takes: a key of an index, a row, a document.

    For psycopg this is an OperationalError. Taken for trouble of the database it would be sent again, for ever.
    """

    def __init__(self, error: psycopg.Error) -> None:
        super().__init__(str(error))
        self.sqlstate = error.sqlstate


DATABASE_TROUBLE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    PoolTimeout,
    PoolClosed,
    TimeoutError,
    ReadOnlySqlTransaction,  # of connections that are not the pool's: its own raise Unfit
)


def trouble_of(error: psycopg.Error, *, broken: bool) -> Trouble | None:
    """What an error says about its connection; None if it is the statement's own. `broken`: libpq has given it up."""
    if isinstance(error, PipelineAborted):
        return None  # the statement that came before has raised what matters
    state = error.sqlstate or ""
    if state == READ_ONLY_SQL_TRANSACTION:
        return Trouble.READ_ONLY
    if state.startswith(SESSION_ENDED):
        return Trouble.ENDED
    if state.startswith(CONNECTION_EXCEPTION) or (broken and not state):
        return Trouble.LOST
    return Trouble.ENDED if broken else None


def exceeds_a_limit(error: psycopg.Error) -> bool:
    """Whether it is the statement that is too large, for any server and at any time."""
    return (error.sqlstate or "").startswith(PROGRAM_LIMIT_EXCEEDED)


def refused_as_read_only(error: psycopg.OperationalError) -> bool:
    """True if libpq was let in and left again, since the server takes no writes (`target_session_attrs`).

    It has no SQLSTATE for that. Where its words are in another language, this is a server that cannot be reached.
    """
    return "read-only" in str(error) or "hot standby" in str(error)
