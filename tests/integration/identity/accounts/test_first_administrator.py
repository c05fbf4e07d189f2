"""The first administrator: one, whoever comes at the same time, and by a link where that is needed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from people import HERE, MARIA, SECRET, Command, MakeAccounts, caught

from slackwater.identity.accounts import queries, service
from slackwater.identity.accounts.account import Role
from slackwater.identity.accounts.errors import AlreadySetUp, EmailTaken, SetupTokenNeeded
from slackwater.identity.accounts.service import Accounts
from slackwater.identity.accounts.setup import SETUP_PATH, SetupMode, setup_link
from slackwater.postgres.pool import Database


async def administrators(database: Database) -> list[str]:
    rows = await database.fetch("select email from slackwater.users where role = 'admin'")
    return [row["email"] for row in rows]


async def test_whoever_comes_first_is_the_administrator_and_nobody_after(
    accounts: Accounts, database: Database
) -> None:
    # Users who are none do not stand in the way.
    await accounts.register("bob@example.com", SECRET, HERE)
    assert await accounts.setup_needed()
    opened = await accounts.initialize("Maria@example.com", SECRET, HERE, token=None, trusted=True)
    assert (opened.account.email, opened.account.role) == (MARIA, Role.ADMIN)
    assert not opened.account.needs_setup
    assert await accounts.find(opened.session_id) == (opened.account, opened.expires_at)
    assert not await accounts.setup_needed()
    with pytest.raises(AlreadySetUp) as refused:
        await accounts.initialize("other@example.com", SECRET, HERE, token=None, trusted=True)
    assert (refused.value.status, refused.value.code) == (409, "system_already_initialized")
    assert await administrators(database) == [MARIA]
    rows = await database.fetch("select action, subject from slackwater.audit where action = 'setup'")
    assert [row["subject"] for row in rows] == [str(opened.account.user_id)]


async def test_twenty_at_once_on_two_processes_make_one_administrator(
    process: Callable[..., Any], database: Database
) -> None:
    # GIVEN two processes, and ten who want to be the first on each
    processes = [
        process(
            f"test {which}",
            [
                {
                    "act": "initialize",
                    "email": f"admin{which}-{number}@example.com",
                    "password": SECRET,
                    "token": None,
                    "trusted": True,
                }
                for number in range(10)
            ],
        )
        for which in range(2)
    ]
    for each in processes:
        await each.ready()
    # WHEN all of them come at once
    for each in processes:
        each.go()
    outcomes = Counter([outcome for each in processes for outcome in await each.outcomes()])
    # THEN one is it, with a session, and the others were told
    assert outcomes == {"opened": 1, "AlreadySetUp": 19}
    assert len(await administrators(database)) == 1
    assert len(await database.fetch("select 1 from slackwater.users")) == 1
    assert len(await database.fetch("select 1 from slackwater.sessions")) == 1


@pytest.mark.parametrize(
    ("mode", "trusted", "needed"),
    [
        (SetupMode.TOKEN, True, True),
        (SetupMode.TOKEN, False, True),
        (SetupMode.LOCAL, True, False),
        (SetupMode.LOCAL, False, True),
        (SetupMode.OPEN, True, False),
        (SetupMode.OPEN, False, False),
    ],
)
async def test_who_needs_a_link(
    made: MakeAccounts, database: Database, mode: SetupMode, trusted: bool, needed: bool
) -> None:
    accounts = made(setup=mode)
    if needed:
        for token in (None, "", "wrong", "\ud800"):
            with pytest.raises(SetupTokenNeeded) as refused:
                await accounts.initialize(MARIA, SECRET, HERE, token=token, trusted=trusted)
            assert (refused.value.status, refused.value.code) == (403, None)
        assert await accounts.setup_needed()
        token = await accounts.setup_token()
        assert token is not None
    else:
        token = None
    await accounts.initialize(MARIA, SECRET, HERE, token=token, trusted=trusted)
    assert await administrators(database) == [MARIA]


async def test_a_link_is_good_once_in_any_process_and_none_is_left_when_it_was_used(
    made: MakeAccounts, database: Database
) -> None:
    one, other = made(setup=SetupMode.TOKEN), made(setup=SetupMode.TOKEN)
    first, second = await one.setup_token(), await other.setup_token()
    assert first is not None
    assert second is not None
    stored = str(await database.fetch("select t::text from slackwater.setup_tokens t"))
    assert first not in stored
    assert await other.is_setup_token(first)
    # What goes wrong takes nothing away.
    await one.register(MARIA, SECRET, HERE)
    with pytest.raises(EmailTaken):
        await other.initialize(MARIA, SECRET, HERE, token=first, trusted=False)
    results = await asyncio.gather(
        *(
            caught(each.initialize(f"admin{n}@example.com", SECRET, HERE, token=token, trusted=False))
            for n, (each, token) in enumerate([(one, first), (other, first), (one, second), (other, second)])
        )
    )
    assert Counter(results) == {None: 1, AlreadySetUp: 3}
    assert await database.fetch("select 1 from slackwater.setup_tokens") == []
    assert not await one.is_setup_token(second)
    assert await one.setup_token() is None
    assert await made(setup=SetupMode.OPEN).setup_token() is None


async def test_an_administrator_made_by_command_is_the_first_one_too(
    made: MakeAccounts, database: Database
) -> None:
    accounts = made(setup=SetupMode.TOKEN)
    token = await accounts.setup_token()
    await service.create(database, "user@example.com", Role.USER)
    assert token is not None
    assert await accounts.is_setup_token(token)
    await service.create(database, MARIA, Role.ADMIN)
    assert not await accounts.is_setup_token(token)
    with pytest.raises(AlreadySetUp):
        await accounts.initialize("a@example.com", SECRET, HERE, token=token, trusted=True)
    await service.set_disabled(database, MARIA, True)
    assert not await accounts.setup_needed()  # or anybody could become one


async def test_links_that_nobody_uses_are_a_bounded_number(
    accounts: Accounts, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await accounts.setup_token()
    await database.execute(
        "insert into slackwater.setup_tokens (sha256) select int4send(n) from generate_series(1, %s) n",
        [queries.MOST_SETUP_TOKENS],
    )
    last = await accounts.setup_token()
    assert first is not None
    assert last is not None
    assert len(await database.fetch("select 1 from slackwater.setup_tokens")) == queries.MOST_SETUP_TOKENS
    assert not await accounts.is_setup_token(first)
    assert await accounts.is_setup_token(last)


# The link


def token_of(link: str) -> str:
    parts = urlsplit(link)
    assert parts.path.endswith(SETUP_PATH)
    return parse_qs(parts.query)["token"][0]


async def test_the_log_shows_a_link_at_each_start_as_long_as_it_is_needed(
    serve: Callable[..., Any], caplog: pytest.LogCaptureFixture, made: MakeAccounts
) -> None:
    def shown() -> list[str]:
        lines = [record for record in caplog.records if getattr(record, "event", "") == "accounts.setup"]
        caplog.clear()
        return [line.getMessage() for line in lines]

    links = []
    for _ in range(2):
        async with serve(accounts=True, setup="token", port=1234, mount_prefix="/agents") as api:
            (line,) = shown()
            links.append(next(word for word in line.split() if word.startswith("http")))
            assert links[-1].startswith("http://127.0.0.1:1234/agents/api/v1/auth/setup?token=")
            accounts = api.services.accounts
            assert all([await accounts.is_setup_token(token_of(link)) for link in links])
    async with serve(accounts=True, setup="open") as api:
        assert shown() == []
        await api.services.accounts.initialize(MARIA, SECRET, HERE, token=None, trusted=False)
    async with serve(accounts=True, setup="token"):
        assert shown() == []
    async with serve() as api:
        assert api.services.accounts is None


async def test_a_command_prints_a_link_until_it_was_used(command: Command, made: MakeAccounts) -> None:
    accounts = made(setup=SetupMode.TOKEN)
    plain = await command("users", "setup", "--url", "https://agents.example.com/")
    asked = await command("users", "setup", "--json")
    link = plain.out.strip()
    token = token_of(link)
    assert link == setup_link("https://agents.example.com", token)
    assert asked.json["url"].startswith("http://127.0.0.1:2024/api/v1/auth/setup?token=")
    assert await accounts.is_setup_token(token_of(asked.json["url"]))
    await accounts.initialize(MARIA, SECRET, HERE, token=token, trusted=False)
    refused = await command("users", "setup")
    assert (refused.code, refused.out) == (1, "")
    assert "there is an administrator" in refused.sentence
