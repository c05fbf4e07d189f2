"""How often somebody may try, however many requests they send, and to however many processes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from people import HERE, MARIA, OTHER, SECRET, THERE, MakeAccounts, caught

from slackwater.identity.accounts import service
from slackwater.identity.accounts.account import Device
from slackwater.identity.accounts.errors import LockedOut, WrongCredentials, WrongPassword
from slackwater.identity.accounts.lockout import LOGINS
from slackwater.identity.accounts.service import Accounts
from slackwater.postgres.pool import Database

BOB = "bob@example.com"
FAILED = [WrongCredentials] * LOGINS.most


async def tries(accounts: Accounts, email: str, password: str, device: Device, number: int) -> list[Any]:
    return [await caught(accounts.login(email, password, device)) for _ in range(number)]


async def attempts(database: Database) -> Counter[str]:
    rows = await database.fetch(
        "select kind, sum(attempts)::int as n from slackwater.login_attempts group by kind"
    )
    return Counter({row["kind"]: row["n"] for row in rows if row["n"]})


async def pass_by(database: Database, seconds: float) -> None:
    await database.execute(
        "update slackwater.login_attempts set until = until - %s * interval '1 second'", [seconds]
    )


async def test_after_five_failures_the_right_password_is_refused_too_until_the_time_is_over(
    made: MakeAccounts, database: Database
) -> None:
    accounts, elsewhere = made(), made()
    await accounts.register(MARIA, SECRET, HERE)
    assert await tries(accounts, MARIA, OTHER, HERE, 5) == FAILED
    for each in (accounts, elsewhere):
        with pytest.raises(LockedOut) as locked:
            await each.login(MARIA, SECRET, HERE)
        assert (locked.value.status, locked.value.message) == (
            429,
            "Too many login attempts. Try again later.",
        )
        assert locked.value.code is None
        assert 290 <= int(locked.value.headers["Retry-After"]) <= 300
    # What is refused does not put it off.
    await pass_by(database, 295)
    assert await tries(accounts, MARIA, SECRET, HERE, 1) == [LockedOut]
    await pass_by(database, 5)
    assert await tries(accounts, MARIA, SECRET, HERE, 1) == [None]
    rows = await database.fetch("select action from slackwater.audit order by audit_id")
    actions = [row["action"] for row in rows]
    assert actions == ["user.registered", *["login.refused"] * 4, "login.locked", "login"]


async def test_a_success_before_clears_what_was_counted(accounts: Accounts, database: Database) -> None:
    await accounts.register(MARIA, SECRET, HERE)
    for _ in range(3):
        assert await tries(accounts, MARIA, OTHER, HERE, 4) == [WrongCredentials] * 4
        assert await tries(accounts, MARIA, SECRET, HERE, 1) == [None]
        assert await attempts(database) == {"registration": 1}


async def test_an_account_is_locked_wherever_the_failures_come_from_and_no_other(accounts: Accounts) -> None:
    await accounts.register(MARIA, SECRET, HERE)
    await accounts.register(BOB, SECRET, HERE)
    for number in range(5):
        device = Device(f"198.51.100.{number}")
        assert await tries(accounts, "Maria@Example.com", OTHER, device, 1) == [WrongCredentials]
    assert await tries(accounts, MARIA, SECRET, Device("192.0.2.1"), 1) == [LockedOut]
    assert await tries(accounts, BOB, SECRET, Device("198.51.100.0"), 1) == [None]


async def test_an_address_is_locked_whichever_accounts_were_tried_and_no_other(accounts: Accounts) -> None:
    await accounts.register(MARIA, SECRET, HERE)
    network = [Device(f"2001:db8::{number}") for number in range(1, 7)]
    for number, device in enumerate(network[:5]):
        assert await tries(accounts, f"u{number}@example.com", OTHER, device, 1) == [WrongCredentials]
    assert await tries(accounts, MARIA, SECRET, network[5], 1) == [LockedOut]
    assert await tries(accounts, MARIA, SECRET, Device("2001:db8:0:1::1"), 1) == [None]


async def test_nobody_gets_more_tries_with_others_by_logging_in_to_their_own_account(
    accounts: Accounts,
) -> None:
    """Only what an account itself was failed with is forgotten with its success."""
    await accounts.register(BOB, SECRET, THERE)
    results = []
    for number in range(10):
        results += await tries(accounts, f"victim{number}@example.com", OTHER, HERE, 1)
        results += await tries(accounts, BOB, SECRET, HERE, 1)
    assert results.count(WrongCredentials) == LOGINS.most
    assert results[-1] is LockedOut


async def test_an_account_that_is_not_there_is_locked_like_one_that_is(accounts: Accounts) -> None:
    for email in ("nobody@example.com", "no address", "\ud800\0"):
        device = Device(f"2001:db8:{len(email)}::1")
        assert await tries(accounts, email, OTHER, device, 6) == [*FAILED, LockedOut]


async def test_what_was_tried_long_ago_does_not_count(accounts: Accounts, database: Database) -> None:
    await accounts.register(MARIA, SECRET, HERE)
    assert await tries(accounts, MARIA, OTHER, HERE, 4) == [WrongCredentials] * 4
    await pass_by(database, LOGINS.seconds)
    assert await tries(accounts, MARIA, OTHER, HERE, 6) == [*FAILED, LockedOut]


async def test_the_current_password_is_not_guessed_by_changing_it(accounts: Accounts) -> None:
    opened = await accounts.register(MARIA, SECRET, HERE)
    results = [
        await caught(accounts.change_password(opened.account, opened.session_id, wrong, OTHER, None, HERE))
        for wrong in [OTHER] * 5 + [SECRET]
    ]
    assert results == [WrongPassword] * 5 + [LockedOut]


async def test_an_operator_who_resets_a_password_ends_the_lock(
    accounts: Accounts, database: Database
) -> None:
    await accounts.register(MARIA, SECRET, HERE)
    assert await tries(accounts, MARIA, OTHER, HERE, 6) == [*FAILED, LockedOut]
    reset = await service.reset(database, MARIA)
    assert reset is not None
    assert await tries(accounts, MARIA, reset[0], THERE, 1) == [None]


async def test_ten_at_once_to_each_of_two_processes_are_five_tries(
    accounts: Accounts, process: Callable[..., Any], database: Database
) -> None:
    # GIVEN two processes that will send ten logins each, at once, from one address or from many
    await accounts.register(MARIA, SECRET, HERE)
    calls = [
        [
            {"act": "login", "email": MARIA, "password": OTHER, "address": f"198.51.{which}.{number}"}
            for number in range(10)
        ]
        for which in range(2)
    ]
    processes = [process(f"test {which}", each) for which, each in enumerate(calls)]
    for each in processes:
        await each.ready()
    # WHEN they do
    for each in processes:
        each.go()
    outcomes = Counter([outcome for each in processes for outcome in await each.outcomes()])
    # THEN five of them have had the password compared
    assert outcomes == {"WrongCredentials": 5, "LockedOut": 15}
    rows = await database.fetch(
        "select action, count(*) from slackwater.audit group by action order by action"
    )
    assert {row["action"]: row["count"] for row in rows} == {
        "login.locked": 1,
        "login.refused": 4,
        "user.registered": 1,
    }


async def test_logins_that_cross_do_not_wait_for_each_other_for_ever(
    accounts: Accounts, database: Database
) -> None:
    """Each locks the row of an account and that of an address."""
    devices = [Device("192.0.2.1"), Device("192.0.2.2")]
    emails = ("a@example.com", "b@example.com", "c@example.com")
    for email in emails:
        await accounts.register(email, SECRET, HERE)
    for _ in range(3):
        results = await asyncio.gather(
            *(caught(accounts.login(email, SECRET, device)) for email in emails for device in devices)
        )
        assert results == [None] * 6
