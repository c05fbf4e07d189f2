from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from slackwater.postgres.connection_errors import (
    DATABASE_UNAVAILABLE,
    ConnectionFault,
    UnusableConnection,
    fault_of,
)


@pytest.mark.parametrize(
    ("error", "broken", "fault"),
    [
        (errors.ReadOnlySqlTransaction(), False, ConnectionFault.READ_ONLY),
        (errors.AdminShutdown(), True, ConnectionFault.ENDED),
        (
            errors.AdminShutdown(),
            False,
            ConnectionFault.ENDED,
        ),  # the farewell may be read before the end of the stream
        (errors.CrashShutdown(), True, ConnectionFault.ENDED),
        (errors.CannotConnectNow(), False, ConnectionFault.ENDED),
        (errors.DatabaseDropped(), False, ConnectionFault.ENDED),
        (errors.IdleInTransactionSessionTimeout(), False, ConnectionFault.ENDED),
        (errors.TooManyConnections(), False, ConnectionFault.ENDED),
        (errors.ConnectionFailure(), False, ConnectionFault.LOST),
        (errors.ProtocolViolation(), False, ConnectionFault.LOST),
        (psycopg.OperationalError("server closed the connection unexpectedly"), True, ConnectionFault.LOST),
        (psycopg.OperationalError("the connection is closed"), True, ConnectionFault.LOST),
        (errors.InternalError_(), True, ConnectionFault.ENDED),  # FATAL
        # What a statement has done, and not its connection:
        (errors.UniqueViolation(), False, None),
        (errors.QueryCanceled(), False, None),
        (errors.DeadlockDetected(), False, None),
        (errors.InFailedSqlTransaction(), False, None),
        (errors.PipelineAborted(), True, None),
        (psycopg.OperationalError("sending failed"), False, None),
        (psycopg.InterfaceError("the cursor is closed"), False, None),
    ],
)
def test_what_an_error_says_about_its_connection(
    error: psycopg.Error, broken: bool, fault: ConnectionFault | None
) -> None:
    assert fault_of(error, broken=broken) is fault


def test_whoever_waits_for_a_database_that_is_away_also_waits_for_one_that_takes_no_writes() -> None:
    unfit = UnusableConnection(
        errors.ReadOnlySqlTransaction("cannot execute INSERT"), ConnectionFault.READ_ONLY
    )
    assert isinstance(unfit, DATABASE_UNAVAILABLE)
    assert (unfit.sqlstate, str(unfit)) == ("25006", "cannot execute INSERT")
    assert isinstance(errors.ReadOnlySqlTransaction(), DATABASE_UNAVAILABLE)
    assert not isinstance(errors.UniqueViolation(), DATABASE_UNAVAILABLE)
