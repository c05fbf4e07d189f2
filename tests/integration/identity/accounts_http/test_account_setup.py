"""The first administrator: made once, by whoever may, and the page knows whether it is still to be done."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.page import AUTH, PASSWORD, Page, cookies_of
from support.server import fleet_of

PROJECT = Path(__file__).parent / "project"
ACCOUNTS = {"SLACKWATER_ACCOUNTS": "true"}

Start = Callable[..., Any]


@pytest.fixture
async def start(database_uri: str, tmp_path: Path) -> Any:
    """`start(SLACKWATER_SETUP="open")`: a process with accounts."""
    async with AsyncExitStack() as stack:

        async def start(count: int = 1, **settings: str) -> Any:
            env = {**ACCOUNTS, **settings}
            fleet = await stack.enter_async_context(fleet_of(database_uri, tmp_path, PROJECT, env))
            return await fleet.start(count)

        yield start


async def test_the_first_administrator_is_set_up_once(start: Start) -> None:
    """A12: a registered user does not stand in the way; true before, false after; again is 409."""
    (server,) = await start(SLACKWATER_SETUP="open")
    user, one, other = (Page(server.url, {}) for _ in range(3))
    assert (await user.setup_status()).json() == {"needs_setup": True}
    assert (await user.register()).status_code == 201
    assert (await user.setup_status()).json()["needs_setup"] is True
    answer = await one.initialize()
    assert answer.status_code == 201
    assert list(answer.json()) == ["id", "email", "system_role", "needs_setup"]
    assert (answer.json()["system_role"], answer.json()["needs_setup"]) == ("admin", False)
    assert {"access_token", "csrf_token"} <= cookies_of(answer).keys()
    assert (await one.me()).json() == answer.json()
    # At once, and as often as one likes
    statuses = await asyncio.gather(*(user.setup_status() for _ in range(30)))
    assert {(each.status_code, each.json()["needs_setup"]) for each in statuses} == {(200, False)}
    again = await other.initialize()
    assert (again.status_code, again.json()["detail"]["code"]) == (409, "system_already_initialized")
    for page in (user, one, other):
        await page.close()


async def test_of_many_who_set_up_at_the_same_time_one_is_the_administrator(start: Start) -> None:
    """A12, and a defect of 6.2: two different addresses at once made two administrators there."""
    servers = await start(2, SLACKWATER_SETUP="open")
    pages = [Page(servers[number % 2].url, {}) for number in range(6)]
    answers = await asyncio.gather(*(page.initialize() for page in pages))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409, 409]
    for page in pages:
        await page.close()


@pytest.mark.parametrize("weak", ["short", "PassWord1"])
async def test_not_by_a_weak_password(start: Start, weak: str) -> None:
    """A8: on initialize"""
    (server,) = await start(SLACKWATER_SETUP="open")
    page = Page(server.url, {})
    answer = await page.initialize(weak)
    assert (answer.status_code, answer.json()["detail"][0]["type"]) == (422, "value_error")
    assert (await page.setup_status()).json()["needs_setup"] is True
    await page.close()


def link_in(server: Any) -> str:
    """The path of the link that the log shows."""
    (link,) = set(re.findall(rf"{AUTH}/setup\?token=[\w-]+", server.tail(100_000)))
    return str(link)


async def test_the_link_sets_a_cookie_and_leads_to_a_page_without_a_field_for_it(start: Start) -> None:
    (server,) = await start(SLACKWATER_SETUP="token")
    page, without = Page(server.url, {}), Page(server.url, {})
    assert (await without.initialize()).status_code == 403
    opened = await page.get(link_in(server))
    assert (opened.status_code, opened.headers["location"]) == (303, "/setup")
    (cookie,) = cookies_of(opened).values()
    assert cookie.attributes["httponly"] is True
    assert cookie.attributes["samesite"] == "strict"
    assert (await without.initialize()).status_code == 403
    made = await page.initialize()
    assert made.status_code == 201
    # It has done what it was for
    assert page.cookie("setup_token") is None
    other = Page(server.url, {"cookie": f"setup_token={cookie.value}"})
    assert (await other.initialize()).status_code == 409
    for each in (page, without, other):
        await each.close()


async def test_a_link_that_is_none_lets_nobody_in(start: Start) -> None:
    (server,) = await start(SLACKWATER_SETUP="token")
    page = Page(server.url, {})
    assert (await page.get(f"{AUTH}/setup?token=wrong")).status_code == 303
    assert (await page.initialize()).status_code == 403
    assert (await page.get(f"{AUTH}/setup")).headers.get("set-cookie") is None
    await page.close()


async def test_without_a_setting_this_machine_needs_no_link_and_whoever_comes_by_a_proxy_does(
    start: Start,
) -> None:
    (server,) = await start()
    proxied = Page(server.url, {"x-forwarded-for": "203.0.113.9"})
    renamed = Page(server.url, {"host": "gateway.example"})
    foreign = Page(server.url, {"origin": "https://evil.example"})
    here = Page(server.url, {})
    assert (await proxied.initialize()).status_code == 403
    assert (await renamed.initialize()).status_code == 403
    assert (await foreign.initialize()).status_code == 403
    assert (await here.initialize()).status_code == 201
    for page in (proxied, renamed, foreign, here):
        await page.close()


async def test_a_session_outlives_the_process_that_has_begun_it(start: Start) -> None:
    """A11: what signs tokens is made once, and there after a restart."""
    (server,) = await start(SLACKWATER_SETUP="open")
    page = Page(server.url, {})
    await page.register()
    server.sigterm()
    await server.wait()
    (again,) = await start(SLACKWATER_SETUP="open")
    page.client.base_url = httpx.URL(again.url)
    assert (await page.me()).status_code == 200
    await page.close()


async def test_registration_can_be_closed(start: Start) -> None:
    (server,) = await start(SLACKWATER_SETUP="open", SLACKWATER_REGISTRATION="closed")
    page = Page(server.url, {})
    assert (await page.setup_status()).json() == {"needs_setup": True, "registration": "closed"}
    refused = await page.register()
    assert (refused.status_code, isinstance(refused.json()["detail"], str)) == (403, True)
    assert (await page.initialize()).status_code == 201
    await page.close()


async def test_without_accounts_there_are_no_such_routes(serve: Any, subtests: pytest.Subtests) -> None:
    async with serve() as api:
        http = api.client()
        for method, name in (
            ("GET", "setup-status"),
            ("GET", "me"),
            ("POST", "register"),
            ("POST", "logout"),
        ):
            with subtests.test(name=name):
                body = {"email": "a@example.org", "password": PASSWORD}
                answer = await http.request(method, f"{AUTH}/{name}", json=body)
                assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})
        assert not [path for path in (await http.get("/openapi.json")).json()["paths"] if AUTH in path]
