"""A process that is killed in the middle of a login, or of anything else that begins a session."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from people import HERE, MARIA, OTHER, SECRET, caught, until_waiting

from slackwater.identity.accounts.errors import LockedOut
from slackwater.identity.accounts.service import Accounts
from slackwater.postgres.pool import Database

NEW = {"email": "new@example.com", "password": SECRET}
CALLS = {
    "login": {"act": "login", "email": MARIA, "password": SECRET},
    "register": {"act": "register", **NEW},
    "initialize": {"act": "initialize", **NEW, "token": None, "trusted": True},
    "external": {
        "act": "external",
        "provider": "idp",
        "subject": "1",
        "email": NEW["email"],
        "provision": True,
    },
}

_LEFT = """
select (select count(*)::int from slackwater.sessions) as sessions,
  (select count(*)::int from slackwater.users where email = 'new@example.com') as users,
  (select count(*)::int from slackwater.external_identities) as identities,
  (select count(*)::int from slackwater.audit where action in ('login', 'setup', 'user.created', 'user.registered')) as told,
  (select coalesce(sum(attempts), 0)::int from slackwater.login_attempts where kind = 'account') as attempts"""

_TERMINATE = """
select pg_terminate_backend(pid, 30000) from pg_stat_activity
where application_name = 'slackwater killed' and wait_event_type = 'Lock'"""


@pytest.mark.parametrize("lost", [False, True], ids=["carried out", "lost"])
@pytest.mark.parametrize("call", CALLS)
async def test_it_leaves_a_whole_session_or_nothing(
    accounts: Accounts,
    database: Database,
    holder: psycopg.AsyncConnection[Any],
    process: Callable[..., Any],
    call: str,
    lost: bool,
) -> None:
    # GIVEN a process whose last statement waits, because somebody has locked the sessions
    await accounts.register(MARIA, SECRET, HERE)
    await database.execute("delete from slackwater.sessions")
    await database.execute("truncate slackwater.audit")
    killed = process("killed", [CALLS[call]])
    await killed.ready()
    async with holder.transaction():
        await holder.execute("lock table slackwater.sessions in exclusive mode")
        killed.go()
        await until_waiting(database, "insert into slackwater.sessions")
        # WHEN it is killed, and the server learns of it before it could go on, or carries the statement out
        killed.process.send_signal(signal.SIGKILL)
        killed.process.wait(30)
        if lost:
            assert await database.fetch(_TERMINATE)
    async with asyncio.timeout(60):
        while await database.fetch(
            "select 1 from pg_stat_activity where application_name = 'slackwater killed' and state = 'active'"
        ):
            await asyncio.sleep(0.01)
    # THEN there is all of it or nothing
    (left,) = await database.fetch(_LEFT)
    done = int(not lost)
    assert left == {
        "sessions": done,
        "users": done if call != "login" else 0,
        "identities": done if call == "external" else 0,
        "told": done,
        # An attempt of which nobody knows what has come of it counts as a wrong one.
        "attempts": int(lost and call == "login"),
    }
    # and whoever tries again gets in
    if call == "login":
        assert await caught(accounts.login(MARIA, SECRET, HERE)) is None
    else:
        again = dict(CALLS[call])
        act = getattr(accounts, again.pop("act"))
        error = await caught(act(device=HERE, **again))
        assert (error is None) == (lost or call == "external")


async def test_whoever_kills_processes_gets_no_more_tries(
    accounts: Accounts, database: Database, process: Callable[..., Any]
) -> None:
    await accounts.register(MARIA, SECRET, HERE)
    # GIVEN a process that has begun to compare many passwords at once
    killed = process("killed", [{"act": "login", "email": MARIA, "password": OTHER} for _ in range(5)])
    await killed.ready()
    killed.go()
    async with asyncio.timeout(60):
        while await database.fetch(
            "select 1 where coalesce((select max(attempts) from slackwater.login_attempts where kind = 'account'), 0) < 5"
        ):
            await asyncio.sleep(0.01)
    # WHEN it is killed
    killed.process.send_signal(signal.SIGKILL)
    killed.process.wait(30)
    # THEN all of them were tries
    assert await caught(accounts.login(MARIA, SECRET, HERE)) is LockedOut
