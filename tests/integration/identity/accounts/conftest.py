"""Accounts on a database of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from slackwater.identity.accounts.service import AccountPolicy, Accounts
from slackwater.postgres.pool import Database

MakeAccounts = Callable[..., Accounts]


@pytest.fixture
async def made(database: Database) -> AsyncIterator[MakeAccounts]:
    """Makes accounts as a process has them, of which there may be several: `made(session_days=1)`."""
    several: list[Accounts] = []

    def make(**policy: object) -> Accounts:
        several.append(Accounts(database, AccountPolicy(**policy)))  # type: ignore[arg-type]
        return several[-1]

    yield make
    for each in several:
        each.close()


@pytest.fixture
def accounts(made: MakeAccounts) -> Accounts:
    return made()
