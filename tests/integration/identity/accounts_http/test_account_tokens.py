"""What a token is worth: as a cookie and as a bearer token, in every process, until its session ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from support.page import AUTH, Page
from websockets.asyncio.client import connect

from slackwater.identity.signing.audience import Audience
from slackwater.identity.signing.service import Signing
from slackwater.postgres.pool import Database

Open = Callable[..., Page]

PUBLIC = {
    "GET": ("setup-status",),
    "POST": ("login/local", "register", "initialize", "logout", "token"),
}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD")
PATHS = (
    "/threads/search",
    "/api/v1/auth/me",
    "/api/v1/auth/users",
    "/api/nothing",
    "/nothing",
    "/metrics",
    "/store/items",
)

PATIENCE = 60.0
"""Whoever waits longer would wait for ever: what is revoked is refused within ten seconds, on a machine that is not busy."""


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["detail"]["code"]


async def claims_of(one: Page, database: Database) -> dict[str, Any]:
    """Those of a valid token of the page's user."""
    (row,) = await database.fetch(
        "select u.user_id, s.session_id from slackwater.users u join slackwater.sessions s using (user_id) "
        "where u.email = %s order by s.session_id desc limit 1",
        [one.email],
    )
    return {"sub": str(row["user_id"]), "sid": str(row["session_id"])}


def with_cookie(token: str) -> dict[str, str]:
    return {"cookie": f"access_token={token}"}


async def until_refused(one: Page) -> httpx.Response:
    """Its last answer: the first that refuses."""
    async with asyncio.timeout(PATIENCE):
        while (answer := await one.me()).status_code == 200:
            await asyncio.sleep(0.05)
    return answer


# What a token says


async def test_what_is_wrong_with_a_token_is_told_by_a_code(
    page: Open, signing: Signing, database: Database
) -> None:
    """A4: none, expired, badly signed, garbage."""
    one = page()
    await one.register()
    claims = await claims_of(one, database)
    good = await signing.sign(Audience.SESSION, claims, seconds=60)
    expired = await signing.sign(Audience.SESSION, claims, seconds=-60)
    head, payload, signature = good.split(".")
    forged = f"{head}.{payload}.{signature[::-1]}"
    other = page()
    assert (await other.me(headers=with_cookie(good))).status_code == 200
    assert code(await other.me()) == (401, "not_authenticated")
    assert code(await other.me(headers=with_cookie(expired))) == (401, "token_expired")
    for wrong in (forged, "garbage", "a.b.c", f"{head}..", "é"):
        for headers in (with_cookie(wrong), {"authorization": f"Bearer {wrong}"}):
            raw = {name: value.encode() for name, value in headers.items()}
            assert code(await other.me(headers=raw)) == (401, "token_invalid"), wrong


async def test_a_token_without_a_version_is_of_version_0(
    page: Open, signing: Signing, database: Database
) -> None:
    """A6"""
    one = page()
    await one.register()
    without = await signing.sign(Audience.SESSION, await claims_of(one, database), seconds=60)
    assert (await page().me(headers=with_cookie(without))).status_code == 200
    assert (await one.change_password("staple horse correct")).status_code == 200
    of_the_new = await signing.sign(Audience.SESSION, await claims_of(one, database), seconds=60)
    assert code(await page().me(headers=with_cookie(of_the_new))) == (401, "token_invalid")


async def test_a_token_for_another_purpose_or_of_other_contents_is_none(
    page: Open, signing: Signing, database: Database
) -> None:
    one = page()
    await one.register()
    claims = await claims_of(one, database)
    for audience in set(Audience) - {Audience.SESSION}:
        other = await signing.sign(audience, claims, seconds=60)
        assert code(await page().me(headers=with_cookie(other))) == (401, "token_invalid")
    for changed in (
        {"sub": str(uuid4())},
        {"sid": str(uuid4())},
        {"sid": "x"},
        {"sid": 5},
        {"ver": "0"},
        {"ver": -1},
    ):
        token = await signing.sign(Audience.SESSION, {**claims, **changed}, seconds=60)
        assert code(await page().me(headers=with_cookie(token))) == (401, "token_invalid"), changed


async def test_who_is_not_there_any_more_is_told_so(page: Open, database: Database) -> None:
    one = page()
    await one.register()
    token = one.cookie("access_token")
    assert token is not None
    # In a process that has not seen the session yet
    await database.execute("delete from slackwater.users where email = %s", [one.email])
    assert code(await page(1).me(headers=with_cookie(token))) == (401, "user_not_found")


# Who needs one


async def test_nobody_gets_anywhere_without_one(page: Open, subtests: pytest.Subtests) -> None:
    """A13: unknown paths and all verbs, without a cookie, with a junk one, and with a bearer token that is none."""
    for headers in ({}, {"cookie": "access_token=junk"}, {"authorization": "Bearer junk"}):
        expected = "token_invalid" if headers else "not_authenticated"
        one = page(**headers)
        for method in METHODS:
            for path in PATHS:
                with subtests.test(method=method, path=path, headers=headers):
                    answer = await one.client.request(method, path)
                    assert answer.status_code == 401
                    if method != "HEAD":
                        assert code(answer) == (401, expected)


async def test_what_is_public_is_so_with_a_trailing_slash_too(page: Open, subtests: pytest.Subtests) -> None:
    """A13"""
    one = page(cookie="access_token=junk")
    for method, names in PUBLIC.items():
        for name in names:
            for slash in ("", "/"):
                with subtests.test(method=method, name=name, slash=slash):
                    answer = await one.client.request(method, f"{AUTH}/{name}{slash}")
                    assert answer.status_code in (200, 413, 422), answer.text


async def test_other_verbs_of_public_paths_do_nothing(page: Open) -> None:
    for path in ("login/local", "register", "initialize", "logout", "token"):
        assert (await page().get(f"{AUTH}/{path}")).status_code == 405


# Bearer tokens


async def test_a_script_gets_a_token_in_the_body_and_no_cookie(page: Open) -> None:
    one = page()
    await one.register()
    script = page()
    answer = await script.client.post(
        f"{AUTH}/token", data={"username": one.email, "password": "correct horse battery"}
    )
    assert (answer.status_code, list(answer.json())) == (200, ["access_token", "token_type", "expires_in"])
    assert answer.json()["token_type"] == "bearer"
    assert "set-cookie" not in answer.headers
    headers = {"authorization": f"Bearer {answer.json()['access_token']}"}
    # No CSRF token: no browser sends this header by itself
    thread = await script.client.post("/threads", json={}, headers=headers)
    assert thread.status_code == 200
    assert (await script.me(headers=headers)).json()["email"] == one.email
    # Whoever comes by cookie has the same threads
    assert (await one.get(f"/threads/{thread.json()['thread_id']}")).status_code == 200
    other = page()
    await other.register()
    assert (await other.get(f"/threads/{thread.json()['thread_id']}")).status_code == 404
    # AND it logs out by it
    assert (await script.logout(headers=headers)).status_code == 200
    assert code(await script.me(headers=headers)) == (401, "token_invalid")
    assert (await one.me()).status_code == 200


async def test_a_bearer_token_counts_before_a_cookie(page: Open) -> None:
    one, other = page(), page()
    await one.register()
    await other.register()
    headers = {"authorization": f"bearer {await one.token()}"}
    assert (await other.me(headers=headers)).json()["email"] == one.email
    assert code(await other.me(headers={"authorization": "Bearer junk"})) == (401, "token_invalid")
    # Another scheme is no token of ours
    assert (await other.me(headers={"authorization": "Basic YTpi"})).json()["email"] == other.email


# Several processes


async def test_who_logs_in_at_one_process_is_known_to_the_other(page: Open, deployment: Any) -> None:
    one = page(0)
    await one.register()
    one.client.base_url = httpx.URL(deployment.urls[1])
    assert (await one.me()).json()["email"] == one.email
    assert (await one.post("/threads", {})).status_code == 200
    # AND one who changes the password there is known here at once
    assert (await one.change_password("staple horse correct")).status_code == 200
    one.client.base_url = httpx.URL(deployment.urls[0])
    assert (await one.me()).json()["email"] == one.email


@pytest.mark.parametrize("how", ["logout", "revoked", "password", "disabled"])
async def test_what_ends_at_one_process_is_refused_by_the_other_and_what_is_open_there_ends(
    page: Open, deployment: Any, database: Database, how: str
) -> None:
    one = page(0)
    await one.register()
    token = one.cookie("access_token")
    assert token is not None
    elsewhere = page(1, **with_cookie(token))
    before = (await elsewhere.me()).json()
    headers = {"authorization": f"Bearer {token}"}
    thread = (await elsewhere.client.post("/threads", json={}, headers=headers)).json()["thread_id"]
    url = f"ws{deployment.urls[1].removeprefix('http')}/threads/{thread}/stream/events"
    async with (
        elsewhere.client.stream(
            "GET", f"/threads/{thread}/stream", headers=headers, timeout=PATIENCE
        ) as stream,
        connect(url, additional_headers=headers) as socket,
    ):
        assert stream.status_code == 200
        if how == "logout":
            assert (await one.logout()).status_code == 200
        elif how == "revoked":
            (session,) = (await one.get(f"{AUTH}/sessions")).json()
            assert (await one.call("DELETE", f"{AUTH}/sessions/{session['id']}")).status_code == 204
        elif how == "password":
            assert (await one.change_password("staple horse correct")).status_code == 200
        else:
            administrator = page(0)
            await administrator.register()
            await database.execute(
                "update slackwater.users set role = 'admin' where email = %s", [administrator.email]
            )
            assert (await administrator.login()).status_code == 200
            path = f"{AUTH}/users/{before['id']}"
            assert (await administrator.call("PATCH", path, json={"disabled": True})).status_code == 200
        assert code(await until_refused(elsewhere)) == (401, "token_invalid")
        # THEN the stream is aborted, as an end would say that there is no more
        with pytest.raises(httpx.RemoteProtocolError):
            await asyncio.wait_for(stream.aread(), PATIENCE)
        await asyncio.wait_for(socket.wait_closed(), PATIENCE)
    assert socket.close_code == 4401


async def test_a_request_costs_no_statement_while_a_session_is_known(page: Open, database: Database) -> None:
    """The time of the last use, which the statement notes, stays as it is."""
    one = page()
    await one.register()
    assert (await one.me()).status_code == 200
    mark = (
        "update slackwater.sessions s set last_used_at = s.last_used_at - interval '1 hour' from slackwater.users u "
        "where u.user_id = s.user_id and u.email = %s"
    )
    await database.execute(mark, [one.email])
    since = time.monotonic()
    assert (await one.me()).status_code == 200
    (row,) = await database.fetch(
        "select s.last_used_at < clock_timestamp() - interval '30 minutes' as unused from slackwater.sessions s "
        "join slackwater.users u using (user_id) where u.email = %s",
        [one.email],
    )
    assert row["unused"] or time.monotonic() - since > 3.0
