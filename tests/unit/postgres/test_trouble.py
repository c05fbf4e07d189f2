from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from slackwater.postgres.trouble import DATABASE_TROUBLE, Trouble, Unfit, trouble_of


@pytest.mark.parametrize(
    ("error", "broken", "trouble"),
    [
        (errors.ReadOnlySqlTransaction(), False, Trouble.READ_ONLY),
        (errors.AdminShutdown(), True, Trouble.ENDED),
        (
            errors.AdminShutdown(),
            False,
            Trouble.ENDED,
        ),  # the farewell may be read before the end of the stream
        (errors.CrashShutdown(), True, Trouble.ENDED),
        (errors.CannotConnectNow(), False, Trouble.ENDED),
        (errors.DatabaseDropped(), False, Trouble.ENDED),
        (errors.IdleInTransactionSessionTimeout(), False, Trouble.ENDED),
        (errors.TooManyConnections(), False, Trouble.ENDED),
        (errors.ConnectionFailure(), False, Trouble.LOST),
        (errors.ProtocolViolation(), False, Trouble.LOST),
        (psycopg.OperationalError("server closed the connection unexpectedly"), True, Trouble.LOST),
        (psycopg.OperationalError("the connection is closed"), True, Trouble.LOST),
        (errors.InternalError_(), True, Trouble.ENDED),  # FATAL
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
    error: psycopg.Error, broken: bool, trouble: Trouble | None
) -> None:
    assert trouble_of(error, broken=broken) is trouble


def test_whoever_waits_for_a_database_that_is_away_also_waits_for_one_that_takes_no_writes() -> None:
    unfit = Unfit(errors.ReadOnlySqlTransaction("cannot execute INSERT"), Trouble.READ_ONLY)
    assert isinstance(unfit, DATABASE_TROUBLE)
    assert (unfit.sqlstate, str(unfit)) == ("25006", "cannot execute INSERT")
    assert isinstance(errors.ReadOnlySqlTransaction(), DATABASE_TROUBLE)
    assert not isinstance(errors.UniqueViolation(), DATABASE_TROUBLE)
