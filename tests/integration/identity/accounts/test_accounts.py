"""Accounts: registering, logging in, changing a password, and what ends sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from people import HERE, MARIA, OTHER, SECRET, THERE, MakeAccounts, caught, until_waiting

from slackwater.identity.accounts import queries, service
from slackwater.identity.accounts.account import Device, Opened, Role, email_of
from slackwater.identity.accounts.errors import (
    EmailTaken,
    InvalidEmail,
    RegistrationClosed,
    TooManyRegistrations,
    WeakPassword,
    WrongCredentials,
    WrongPassword,
)
from slackwater.identity.accounts.lockout import REGISTRATIONS
from slackwater.identity.accounts.service import Accounts
from slackwater.postgres.pool import Database


async def valid(accounts: Accounts, *several: Opened) -> list[bool]:
    """Which of the sessions are valid, as both who ask about one and who ask about many are told."""
    found = [await accounts.find(each.session_id) is not None for each in several]
    still = await accounts.still_valid([each.session_id for each in several])
    assert [each.session_id in still for each in several] == found
    return found


async def audit(database: Database) -> list[tuple[Any, ...]]:
    rows = await database.fetch(
        "select action, actor, via, owner, subject, address from slackwater.audit order by audit_id"
    )
    return [tuple(row.values()) for row in rows]


async def test_who_registers_is_logged_in_and_logs_in_again_in_any_case(accounts: Accounts) -> None:
    opened = await accounts.register("Maria@Example.com", SECRET, HERE)
    account = opened.account
    assert (account.email, account.role, account.needs_setup) == (MARIA, Role.USER, False)
    assert account.owner == f"account:{account.user_id}"
    assert await accounts.find(opened.session_id) == (account, opened.expires_at)

    again = await accounts.login(" MARIA@example.COM", SECRET, HERE)
    assert again.session_id != opened.session_id
    assert again.account == account


async def test_an_address_belongs_to_one_account_whatever_its_case_and_whoever_comes_at_once(
    accounts: Accounts, database: Database
) -> None:
    addresses = ("Victim@example.com", "victim@example.com", "VICTIM@EXAMPLE.COM", "victim@Example.com")
    results = await asyncio.gather(
        *(accounts.register(address, SECRET, HERE) for address in addresses), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["EmailTaken"] * 3 + ["Opened"]
    assert await database.fetch("select email from slackwater.users") == [{"email": "victim@example.com"}]
    assert len(await database.fetch("select 1 from slackwater.sessions")) == 1


@pytest.mark.parametrize(
    "text",
    [
        *("", "maria", "maria@", "@example.com", "maria@localhost", "a b@example.com", "a..b@example.com"),
        *("maria@example.c", "m\0@example.com", "ma\u212ae@example.com", "maria@exämple.com", "\ud800@a.de"),
        *("maria@-example.com", "a" * 250 + "@a.de", "maria@example.com\nbcc", "a@b@example.com"),
    ],
)
async def test_what_a_page_would_not_take_for_an_address_is_refused(accounts: Accounts, text: str) -> None:
    assert email_of(text) is None
    with pytest.raises(InvalidEmail) as refused:
        await accounts.register(text, SECRET, HERE)
    assert refused.value.detail == [
        {"type": "value_error", "loc": ["body", "email"], "msg": refused.value.message}
    ]
    with pytest.raises(WrongCredentials):
        await accounts.login(text, SECRET, HERE)


@pytest.mark.parametrize(
    "password", ["", "short", "password", "PassWord123", "QWERTYUIOP", MARIA, "x" * 1025]
)
async def test_a_weak_password_is_refused_wherever_one_is_chosen(accounts: Accounts, password: str) -> None:
    with pytest.raises(WeakPassword) as refused:
        await accounts.register(MARIA, password, HERE)
    assert (refused.value.status, refused.value.detail[0]["loc"]) == (422, ["body", "password"])  # type: ignore[index]
    with pytest.raises(WeakPassword):
        await accounts.initialize(MARIA, password, HERE, token=None, trusted=True)
    opened = await accounts.register(MARIA, SECRET, HERE)
    with pytest.raises(WeakPassword) as refused:
        await accounts.change_password(opened.account, opened.session_id, SECRET, password, None, HERE)
    assert refused.value.detail[0]["loc"] == ["body", "new_password"]  # type: ignore[index]


async def test_registration_can_be_closed_and_is_limited_for_each_address(
    made: MakeAccounts, database: Database
) -> None:
    with pytest.raises(RegistrationClosed):
        await made(registration_open=False).register(MARIA, SECRET, HERE)
    accounts, again = made(), made()
    await accounts.register(MARIA, SECRET, HERE)
    tries = [
        each.register(MARIA, SECRET, HERE) for each in (accounts, again) for _ in range(REGISTRATIONS.most)
    ]
    results = [await attempt for attempt in map(caught, tries)]
    assert results == [EmailTaken] * (REGISTRATIONS.most - 1) + [TooManyRegistrations] * (
        REGISTRATIONS.most + 1
    )
    assert await caught(again.register(MARIA, SECRET, THERE)) is EmailTaken
    await database.execute("update slackwater.login_attempts set until = clock_timestamp()")
    await again.register("other@example.com", SECRET, HERE)


async def test_every_refused_login_looks_alike_and_none_opens_a_session(
    made: MakeAccounts, database: Database
) -> None:
    accounts = made()
    await accounts.register(MARIA, SECRET, HERE)
    await accounts.register("gone@example.com", SECRET, HERE)
    await service.set_disabled(database, "gone@example.com", True)
    await accounts.external("idp", "1", "elsewhere@example.com", HERE, provision=True)
    before = await database.fetch("select session_id from slackwater.sessions")
    for number, (email, password) in enumerate(
        [
            (MARIA, OTHER),
            (MARIA, ""),
            (MARIA, SECRET + "\0"),
            (MARIA, "\ud800"),
            ("nobody@example.com", SECRET),
            ("gone@example.com", SECRET),
            ("elsewhere@example.com", SECRET),
            ("elsewhere@example.com", ""),
        ]
    ):
        with pytest.raises(WrongCredentials) as refused:
            await accounts.login(email, password, Device(f"198.51.100.{number}"))
        assert (refused.value.status, refused.value.code) == (401, "invalid_credentials")
    assert await database.fetch("select session_id from slackwater.sessions") == before


async def test_a_change_of_the_password_ends_all_sessions_but_the_one_that_begins(accounts: Accounts) -> None:
    first = await accounts.register(MARIA, SECRET, HERE)
    second = await accounts.login(MARIA, SECRET, THERE)
    stranger = await accounts.register("bob@example.com", SECRET, THERE)

    opened = await accounts.change_password(first.account, first.session_id, SECRET, OTHER, None, HERE)

    assert await valid(accounts, first, second, opened, stranger) == [False, False, True, True]
    assert opened.account.token_version == first.account.token_version + 1
    with pytest.raises(WrongCredentials):
        await accounts.login(MARIA, SECRET, HERE)
    assert (await accounts.login(MARIA, OTHER, HERE)).account == opened.account


async def test_a_wrong_current_password_changes_nothing_nor_does_a_taken_address(accounts: Accounts) -> None:
    opened = await accounts.register(MARIA, SECRET, HERE)
    await accounts.register("bob@example.com", SECRET, THERE)
    with pytest.raises(WrongPassword) as refused:
        await accounts.change_password(opened.account, opened.session_id, OTHER, OTHER, None, HERE)
    assert (refused.value.status, refused.value.code) == (400, "invalid_credentials")
    with pytest.raises(EmailTaken):
        await accounts.change_password(
            opened.account, opened.session_id, SECRET, OTHER, "BOB@example.com", HERE
        )
    elsewhere = await accounts.external("idp", "1", "else@example.com", HERE, provision=True)
    with pytest.raises(WrongPassword):
        await accounts.change_password(elsewhere.account, elsewhere.session_id, "", OTHER, None, THERE)
    assert await valid(accounts, opened) == [True]
    await accounts.login(MARIA, SECRET, HERE)


async def test_two_changes_at_the_same_time_are_one(accounts: Accounts) -> None:
    opened = await accounts.register(MARIA, SECRET, HERE)
    passwords = [f"{OTHER} {number}" for number in range(3)]
    changes = [
        caught(accounts.change_password(opened.account, opened.session_id, SECRET, each, None, HERE))
        for each in passwords
    ]
    assert sorted(map(str, await asyncio.gather(*changes))) == sorted(
        map(str, [None, WrongPassword, WrongPassword])
    )


async def test_a_login_that_meets_a_change_of_the_password_is_refused_or_its_session_is_over(
    accounts: Accounts, database: Database, holder: psycopg.AsyncConnection[Any]
) -> None:
    """The password was right when it was compared, and is not any more when the session begins."""
    opened = await accounts.register(MARIA, SECRET, HERE)
    async with holder.transaction():
        # WHEN the change holds the user's row, and a login with what was right comes
        await holder.execute("select 1 from slackwater.users for update")
        login = asyncio.create_task(caught(accounts.login(MARIA, SECRET, THERE)))
        await until_waiting(database, "update slackwater.users set last_login_at")
        await holder.execute("update slackwater.users set token_version = token_version + 1")
    # THEN it does not begin
    assert await login is WrongCredentials
    assert await valid(accounts, opened) == [False]


async def test_a_change_of_the_password_that_meets_a_login_ends_its_session_too(
    accounts: Accounts, database: Database, holder: psycopg.AsyncConnection[Any]
) -> None:
    opened = await accounts.register(MARIA, SECRET, HERE)
    begun = uuid4()
    async with holder.transaction():
        # WHEN a session begins that the change, which waits for it, cannot see
        await holder.execute("select 1 from slackwater.users for update")
        change = asyncio.create_task(
            accounts.change_password(opened.account, opened.session_id, SECRET, OTHER, None, THERE)
        )
        await until_waiting(database, "update slackwater.users set password")
        await holder.execute(
            """insert into slackwater.sessions (session_id, user_id, token_version, address, expires_at)
               select %s, user_id, token_version, 'here', now() + interval '1 day' from slackwater.users""",
            [begun],
        )
    changed = await change
    # THEN it is over all the same
    assert await accounts.find(begun) is None
    assert await accounts.still_valid([begun, changed.session_id]) == {changed.session_id}


async def test_a_session_ends_at_its_time_and_when_it_is_logged_out_or_revoked(
    made: MakeAccounts, database: Database
) -> None:
    accounts = made(session_days=2)
    first = await accounts.register(MARIA, SECRET, HERE)
    second, third = [await accounts.login(MARIA, SECRET, THERE) for _ in range(2)]
    stranger = await accounts.register("bob@example.com", SECRET, THERE)
    (row,) = await database.fetch(
        "select extract(epoch from expires_at - created_at)::float as length from slackwater.sessions "
        "where session_id = %s",
        [first.session_id],
    )
    assert row["length"] == pytest.approx(2 * 86_400, abs=1)

    await accounts.logout(first.session_id)
    await accounts.logout(first.session_id)
    await accounts.logout(uuid4())
    assert not await accounts.revoke_session(stranger.account.user_id, second.session_id)
    assert await accounts.revoke_session(second.account.user_id, second.session_id)
    assert not await accounts.revoke_session(second.account.user_id, second.session_id)
    assert await valid(accounts, first, second, third, stranger) == [False, False, True, True]

    await database.execute(
        "update slackwater.sessions set expires_at = clock_timestamp() where session_id = %s",
        [third.session_id],
    )
    assert await valid(accounts, third, stranger) == [False, True]
    assert await accounts.sessions(third.account.user_id) == []


async def test_sessions_are_listed_with_their_devices_the_newest_first(
    accounts: Accounts, database: Database
) -> None:
    first = await accounts.register(MARIA, SECRET, Device("2001:db8::1", "Fire\0fox " + "x" * 500))
    second = await accounts.login(MARIA, SECRET, Device("nonsense"))
    sessions = await accounts.sessions(first.account.user_id)
    assert [(each.session_id, each.address) for each in sessions] == [
        (second.session_id, "unknown"),
        (first.session_id, "2001:db8::/64"),
    ]
    assert [each.device for each in sessions] == [None, ("Firefox " + "x" * 500)[:200]]

    # Used is noted to the minute.
    await database.execute(
        "update slackwater.sessions set last_used_at = now() - interval '50 seconds' where session_id = %s",
        [first.session_id],
    )
    before = (await accounts.sessions(first.account.user_id))[1].last_used_at
    await accounts.find(first.session_id)
    assert (await accounts.sessions(first.account.user_id))[1].last_used_at == before
    await database.execute("update slackwater.sessions set last_used_at = now() - interval '61 seconds'")
    await accounts.find(first.session_id)
    used, unused = [each.last_used_at for each in reversed(await accounts.sessions(first.account.user_id))]
    assert used > unused


async def test_the_oldest_session_ends_where_there_are_too_many(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    opened = await accounts.register(MARIA, SECRET, HERE)
    await database.execute(
        """insert into slackwater.sessions (session_id, user_id, token_version, address, expires_at)
           select ('ffffffff-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, user_id, 0, 'here', now() + interval '1 day'
           from slackwater.users, generate_series(1, %s) n""",
        [queries.MOST_SESSIONS - 1],
    )
    newest = await accounts.login(MARIA, SECRET, HERE)
    assert await valid(accounts, opened, newest) == [False, True]
    assert len(await accounts.sessions(opened.account.user_id)) == queries.MOST_SESSIONS


async def test_a_disabled_user_has_no_session_and_begins_none_until_they_are_enabled(
    accounts: Accounts, database: Database
) -> None:
    opened = await accounts.register(MARIA, SECRET, HERE)
    disabled = await service.set_disabled(database, "MARIA@example.com", True)
    assert disabled is not None
    assert disabled.disabled
    assert await valid(accounts, opened) == [False]
    assert await caught(accounts.login(MARIA, SECRET, HERE)) is WrongCredentials
    again = await service.set_disabled(database, MARIA, True)
    assert again == disabled  # nothing more has happened
    await service.set_disabled(database, MARIA, False)
    assert await valid(accounts, opened) == [False]
    assert not (await accounts.login(MARIA, SECRET, HERE)).account.disabled
    assert await service.set_disabled(database, "nobody@example.com", True) is None


async def test_whoever_was_given_a_password_is_asked_for_one_of_their_own_and_an_address(
    accounts: Accounts, database: Database
) -> None:
    password, account = await service.create(database, "Maria@example.com", Role.ADMIN)
    assert (account.email, account.role, account.needs_setup) == (MARIA, Role.ADMIN, True)
    with pytest.raises(EmailTaken):
        await service.create(database, MARIA, Role.USER)
    assert not await accounts.setup_needed()
    opened = await accounts.login(MARIA, password, HERE)
    kept = await accounts.change_password(opened.account, opened.session_id, password, SECRET, None, HERE)
    assert kept.account.needs_setup
    done = await accounts.change_password(kept.account, kept.session_id, SECRET, OTHER, "Root@x.org", HERE)
    assert (done.account.needs_setup, done.account.email) == (False, "root@x.org")

    reset = await service.reset(database, "ROOT@x.org")
    assert reset is not None
    assert await valid(accounts, done) == [False]
    assert await caught(accounts.login("root@x.org", OTHER, HERE)) is WrongCredentials
    assert (await accounts.login("root@x.org", reset[0], HERE)).account.needs_setup
    assert await service.reset(database, MARIA) is None


async def test_what_happens_is_audited_with_it(accounts: Accounts, database: Database) -> None:
    opened = await accounts.register(MARIA, SECRET, HERE)
    owner, user = opened.account.owner, str(opened.account.user_id)
    await caught(accounts.login(MARIA, OTHER, THERE))
    await caught(accounts.login("nobody@example.com", OTHER, THERE))
    again = await accounts.login(MARIA, SECRET, THERE)
    await accounts.logout(again.session_id)
    other = await accounts.login(MARIA, SECRET, THERE)
    await accounts.revoke_session(opened.account.user_id, other.session_id)
    await accounts.change_password(opened.account, opened.session_id, SECRET, OTHER, None, HERE)
    await service.set_disabled(database, MARIA, True)
    await service.set_disabled(database, MARIA, True)
    await service.set_disabled(database, MARIA, False)
    await service.reset(database, MARIA)
    here, there = HERE.address, THERE.address
    assert await audit(database) == [
        ("user.registered", owner, "api", owner, user, here),
        ("login.refused", None, "api", owner, user, there),
        ("login.refused", None, "api", None, None, there),
        ("login", owner, "api", owner, str(again.session_id), there),
        ("logout", owner, "api", owner, str(again.session_id), None),
        ("login", owner, "api", owner, str(other.session_id), there),
        ("session.revoked", owner, "api", owner, str(other.session_id), None),
        ("password.changed", owner, "api", owner, user, here),
        ("user.disabled", None, "command", owner, user, None),
        ("user.enabled", None, "command", owner, user, None),
        ("password.reset", None, "command", owner, user, None),
    ]
    text = str(await database.fetch("select a::text from slackwater.audit a, slackwater.login_attempts l"))
    assert SECRET not in text
    assert "nobody@" not in text


async def test_a_server_with_accounts_sweeps_them(serve: Callable[..., Any]) -> None:
    async with serve(accounts=True, session_days=1) as api:
        accounts = api.services.accounts
        assert (accounts.policy.session_days, accounts.policy.registration_open) == (1, True)
        opened = await accounts.register(MARIA, SECRET, HERE)
        await api.database.execute("update slackwater.sessions set expires_at = clock_timestamp()")
        await api.services.runtime.sweep()
        assert await api.database.fetch("select 1 from slackwater.sessions") == []
        assert await valid(accounts, opened) == [False]
    async with serve(accounts=True, registration="closed") as api:
        assert await caught(api.services.accounts.register(MARIA, SECRET, HERE)) is RegistrationClosed


async def test_what_has_expired_is_swept_and_nothing_else(
    accounts: Accounts, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "TRIMMED", 2)
    old = [await accounts.register(f"u{number}@example.com", SECRET, HERE) for number in range(5)]
    await database.execute("update slackwater.sessions set expires_at = clock_timestamp()")
    await database.execute(
        "insert into slackwater.login_attempts select 'account', int4send(n), 1, now() - interval '2 minutes' "
        "from generate_series(1, 5) n"
    )
    young = await accounts.login("u0@example.com", SECRET, HERE)
    await caught(accounts.login("u1@example.com", OTHER, HERE))
    await service.trim(database)
    assert await valid(accounts, *old, young) == [False] * 5 + [True]
    assert len(await database.fetch("select 1 from slackwater.sessions")) == 1
    kinds = await database.fetch("select kind from slackwater.login_attempts order by kind")
    assert [row["kind"] for row in kinds] == ["account", "address", "pair", "registration"]
