"""Logging in by a provider where several processes serve, and where one is killed in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from support.provider import TestProvider
from support.server import Fleet, ServerProcess, fleet_of

from slackwater.postgres.pool import Database

AUTH = "/api/v1/auth"
PROJECT = Path(__file__).parent / "accounts_http" / "project"


@pytest.fixture
async def fleet(database_uri: str, tmp_path: Path, at: TestProvider) -> AsyncIterator[Fleet]:
    env = {f"SLACKWATER_{name.upper()}": str(value) for name, value in at.settings.items()}
    env |= {
        "SLACKWATER_ACCOUNTS": "true",
        "SLACKWATER_SETUP": "open",
        "SLACKWATER_OIDC_PROVISION": "true",
        # What users call, whichever process answers.
        "SLACKWATER_PUBLIC_URL": "http://127.0.0.1:9",
    }
    async with fleet_of(database_uri, tmp_path, PROJECT, env) as fleet:
        yield fleet
    assert fleet.complaints == []


@pytest.fixture
async def browser() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=60, trust_env=False, verify=False) as browser:
        yield browser


async def begin(browser: httpx.AsyncClient, server: ServerProcess, at: TestProvider) -> str:
    """Begin at a process, and log in at the provider: the callback, as a path."""
    begun = await browser.get(f"{server.url}{AUTH}/oauth/oidc")
    assert begun.status_code == 302, begun.text
    parts = urlsplit(await at.consent(begun.headers["location"]))
    return f"{parts.path}?{parts.query}"


async def people(database: Database) -> tuple[int, int, int]:
    """How many users, identities and sessions there are."""
    (row,) = await database.fetch(
        "select (select count(*) from slackwater.users) users, (select count(*) from slackwater.external_identities) ids, "
        "(select count(*) from slackwater.sessions) sessions"
    )
    return row["users"], row["ids"], row["sessions"]


async def test_a_login_begins_at_one_process_and_ends_once_at_any(
    fleet: Fleet, at: TestProvider, browser: httpx.AsyncClient, database: Database
) -> None:
    one, other = await fleet.start(2)
    callback = await begin(browser, one, at)
    kept = {"cookie": "; ".join(f"{name}={value}" for name, value in browser.cookies.items())}
    browser.cookies.clear()

    # WHEN the answer is delivered to both, several times at once
    urls = [f"{server.url}{callback}" for server in (one, other) * 4]
    answers = await asyncio.gather(*(browser.get(url, headers=kept) for url in urls))

    # THEN one of them logs in
    assert sorted(answer.status_code for answer in answers) == [303] + [400] * 7
    assert {answer.json()["detail"]["code"] for answer in answers if answer.status_code == 400} == {
        "login_expired"
    }
    assert await people(database) == (1, 1, 1)
    assert await at.seen("/token") == 1
    (done,) = [answer for answer in answers if answer.status_code == 303]
    token = done.cookies["access_token"]
    for server in (one, other):
        me = await browser.get(f"{server.url}{AUTH}/me", headers={"authorization": f"Bearer {token}"})
        assert me.json()["email"] == "alice@example.com"


async def test_two_logins_of_somebody_new_at_the_same_time_are_one_user(
    fleet: Fleet, at: TestProvider, browser: httpx.AsyncClient, database: Database
) -> None:
    one, other = await fleet.start(2)
    logins: list[tuple[str, dict[str, Any]]] = []
    for server in (one, other, one, other):
        callback = await begin(browser, server, at)
        cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        browser.cookies.clear()
        logins.append((f"{server.url}{callback}", {"cookie": cookies}))
    answers = await asyncio.gather(*(browser.get(url, headers=headers) for url, headers in logins))
    assert [answer.status_code for answer in answers] == [303] * 4, [answer.text for answer in answers]
    assert await people(database) == (1, 1, 4)


@pytest.mark.parametrize("held", ["/token", "/jwks"])
async def test_a_process_that_is_killed_in_the_middle_leaves_nobody_half_logged_in(
    fleet: Fleet, at: TestProvider, browser: httpx.AsyncClient, database: Database, held: str
) -> None:
    """`/jwks` is asked for when the tokens are there: between the provider's answer and the session."""
    one, other = await fleet.start(2)
    callback = await begin(browser, one, at)
    await at.control(held=[held])
    waiting = asyncio.create_task(browser.get(f"{one.url}{callback}"), name="callback")
    await at.until_seen(held)
    one.sigkill()
    with pytest.raises(httpx.TransportError):
        await waiting
    await at.control(held=[])

    # THEN nobody is logged in, and the same answer logs nobody in any more
    assert await people(database) == (0, 0, 0)
    again = await browser.get(f"{other.url}{callback}")
    assert (again.status_code, again.json()["detail"]["code"]) == (400, "login_expired")
    assert await people(database) == (0, 0, 0)
    # AND the next login is one
    callback = await begin(browser, other, at)
    assert (await browser.get(f"{other.url}{callback}")).status_code == 303
    assert await people(database) == (1, 1, 1)


async def test_a_process_that_stops_finishes_the_login(
    fleet: Fleet, at: TestProvider, browser: httpx.AsyncClient, database: Database
) -> None:
    (one,) = await fleet.start(1, env={"SLACKWATER_GRACE_SECONDS": "15"})
    callback = await begin(browser, one, at)
    await at.control(held=["/token"])
    waiting = asyncio.create_task(browser.get(f"{one.url}{callback}"), name="callback")
    await at.until_seen("/token")
    one.sigterm()
    await at.control(held=[])
    answer = await waiting
    # Either it was in time, or nobody was logged in: never a session that nobody has heard of.
    sessions = (await people(database))[2]
    assert (answer.status_code, sessions) in ((303, 1), (503, 0)), answer.text
    assert await one.wait() == 0
