"""The errors that psycopg raises while the database is unreachable, restarts or fails over."""

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


class ConnectionFault(Enum):
    """What is wrong with a connection. It does not depend on the statement, and says nothing about a run."""

    ENDED = "ended"
    """The server has ended this session. Other sessions may be fine."""
    LOST = "lost"
    """The connection broke or no longer responds. Those opened at the same time may be dead too."""
    READ_ONLY = "read_only"
    """The server refuses writes: it has become a replica, or is about to. All connections to it are affected."""


class UnusableConnection(psycopg.OperationalError):
    """The connection cannot be used for the statement, none of which was executed."""

    def __init__(self, error: psycopg.Error, fault: ConnectionFault) -> None:
        super().__init__(str(error))
        self.sqlstate = error.sqlstate
        self.fault = fault


class LimitExceeded(psycopg.DataError):
    """The statement contains something larger than Postgres accepts: an index key, a row, a document.

    For psycopg this is an OperationalError. Taken for an unavailable database, it would be retried forever.
    """

    def __init__(self, error: psycopg.Error) -> None:
        super().__init__(str(error))
        self.sqlstate = error.sqlstate


DATABASE_UNAVAILABLE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    PoolTimeout,
    PoolClosed,
    TimeoutError,
    ReadOnlySqlTransaction,  # from connections outside the pool; the pool's own raise UnusableConnection
)


def fault_of(error: psycopg.Error, *, broken: bool) -> ConnectionFault | None:
    """The fault of the connection behind an error; None if the statement is to blame. `broken`: libpq has given up the connection."""
    if isinstance(error, PipelineAborted):
        return None  # an earlier statement has raised the actual error
    state = error.sqlstate or ""
    if state == READ_ONLY_SQL_TRANSACTION:
        return ConnectionFault.READ_ONLY
    if state.startswith(SESSION_ENDED):
        return ConnectionFault.ENDED
    if state.startswith(CONNECTION_EXCEPTION) or (broken and not state):
        return ConnectionFault.LOST
    return ConnectionFault.ENDED if broken else None


def exceeds_a_limit(error: psycopg.Error) -> bool:
    """Whether the statement itself is too large, for any server at any time."""
    return (error.sqlstate or "").startswith(PROGRAM_LIMIT_EXCEEDED)


def refused_as_read_only(error: psycopg.OperationalError) -> bool:
    """Whether libpq connected and then left because the server takes no writes (`target_session_attrs`).

    There is no SQLSTATE for that. If the message is in another language, the server counts as unreachable.
    """
    return "read-only" in str(error) or "hot standby" in str(error)
