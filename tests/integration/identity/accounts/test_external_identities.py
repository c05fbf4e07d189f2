"""Whom a provider of identities names: which account is theirs, and which is not, whatever their address."""

from __future__ import annotations

import asyncio

import pytest
from people import HERE, MARIA, SECRET, caught

from slackwater.identity.accounts import service
from slackwater.identity.accounts.account import Role
from slackwater.identity.accounts.errors import (
    AccountDisabled,
    EmailTaken,
    InvalidEmail,
    RegistrationClosed,
)
from slackwater.identity.accounts.service import Accounts
from slackwater.postgres.pool import Database


async def test_who_is_new_gets_an_account_if_that_is_wanted_and_keeps_it(accounts: Accounts) -> None:
    with pytest.raises(RegistrationClosed):
        await accounts.external("idp", "1", MARIA, HERE, provision=False)
    with pytest.raises(InvalidEmail):
        await accounts.external("idp", "1", "maria", HERE, provision=True)
    opened = await accounts.external("idp", "1", "Maria@example.com", HERE, provision=True)
    assert (opened.account.email, opened.account.role) == (MARIA, Role.USER)
    # By the subject, although the address is another one now.
    again = await accounts.external("idp", "1", "other@example.com", HERE, provision=False)
    assert (again.account, again.session_id != opened.session_id) == (opened.account, True)


async def test_an_account_with_a_password_is_nobodys_by_its_address(accounts: Accounts) -> None:
    await accounts.register(MARIA, SECRET, HERE)
    with pytest.raises(EmailTaken):
        await accounts.external("idp", "1", "MARIA@example.com", HERE, provision=True)


async def test_an_address_that_was_given_to_somebody_else_is_not_their_account(
    accounts: Accounts, database: Database
) -> None:
    opened = await accounts.external("idp", "1", MARIA, HERE, provision=True)
    with pytest.raises(EmailTaken):
        await accounts.external("idp", "2", MARIA, HERE, provision=True)
    # Another provider that has verified the same address names the same person.
    other = await accounts.external("other", "2", MARIA, HERE, provision=False)
    assert other.account == opened.account
    rows = await database.fetch("select provider, subject from slackwater.external_identities order by 1")
    assert [tuple(row.values()) for row in rows] == [("idp", "1"), ("other", "2")]


async def test_a_disabled_user_is_let_in_by_no_provider(accounts: Accounts, database: Database) -> None:
    await accounts.external("idp", "1", MARIA, HERE, provision=True)
    await service.set_disabled(database, MARIA, True)
    for provider, subject in (("idp", "1"), ("other", "2")):
        with pytest.raises(AccountDisabled):
            await accounts.external(provider, subject, MARIA, HERE, provision=True)


async def test_one_who_comes_several_times_at_once_is_one(accounts: Accounts, database: Database) -> None:
    opened = await asyncio.gather(
        *(accounts.external("idp", "1", MARIA, HERE, provision=True) for _ in range(6))
    )
    assert len({each.account.user_id for each in opened}) == 1
    assert len(await database.fetch("select 1 from slackwater.users")) == 1
    assert len(await database.fetch("select 1 from slackwater.sessions")) == 6


async def test_one_whose_address_has_just_changed_and_who_comes_several_times_at_once_is_one(
    accounts: Accounts, database: Database
) -> None:
    opened = await asyncio.gather(
        *(accounts.external("idp", "1", f"maria{n}@example.com", HERE, provision=True) for n in range(6))
    )
    assert len({each.account.user_id for each in opened}) == 1
    assert len(await database.fetch("select 1 from slackwater.users")) == 1


async def test_two_with_one_address_at_once_are_not_one(accounts: Accounts, database: Database) -> None:
    results = await asyncio.gather(
        *(caught(accounts.external("idp", str(n), MARIA, HERE, provision=True)) for n in range(4))
    )
    assert sorted(map(str, results)) == sorted(map(str, [None, EmailTaken, EmailTaken, EmailTaken]))
    assert len(await database.fetch("select 1 from slackwater.external_identities")) == 1
