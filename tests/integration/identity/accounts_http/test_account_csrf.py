"""What a page of another site makes a user's browser send is refused; what ours sends, and what a script sends, is not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from support.page import AUTH, PASSWORD, Page, close_code, cookies_of
from support.server import fleet_of

from slackwater.kit.ids import uuid7

Open = Callable[..., Page]

PROJECT = Path(__file__).parent / "project"
MISSING = (403, "CSRF token missing. Include X-CSRF-Token header.")
MISMATCH = (403, "CSRF token mismatch.")
CROSS_SITE = (403, "Cross-site auth request denied.")
EVIL = {"origin": "https://evil.example"}


def refused(answer: httpx.Response) -> tuple[int, Any]:
    return answer.status_code, answer.json().get("detail")


@pytest.fixture
async def user(page: Open) -> Page:
    """Somebody who has logged in."""
    one = page()
    assert (await one.register()).status_code == 201
    return one


# The token


async def test_what_changes_something_needs_the_token_of_the_session(page: Open, user: Page) -> None:
    """F2: missing, mismatch, match."""
    other = page()
    await other.register()
    foreign = other.cookie("csrf_token")
    assert foreign is not None
    assert refused(await user.post("/threads", {}, csrf=False)) == MISSING
    for headers in (
        {"x-csrf-token": "nonsense"},
        {"x-csrf-token": foreign},
        # A pair of cookie and header that belong together, which the system this was conceived from let pass.
        {
            "x-csrf-token": foreign,
            "cookie": f"access_token={user.cookie('access_token')}; csrf_token={foreign}",
        },
    ):
        assert refused(await user.post("/threads", {}, headers=headers)) == MISMATCH
    made = await user.post("/threads", {})
    assert made.status_code == 200
    path = f"/threads/{made.json()['thread_id']}"
    assert refused(await user.call("PATCH", path, csrf=False, json={"metadata": {"a": 1}})) == MISSING
    assert refused(await user.call("DELETE", path, csrf=False)) == MISSING
    assert (await user.get(path)).status_code == 200
    # AND what a user wants to find out changes nothing, but is a POST
    assert refused(await user.post("/threads/search", {}, csrf=False)) == MISSING


async def test_who_calls_comes_first(page: Open) -> None:
    for headers in ({}, {"cookie": "access_token=junk"}):
        assert (await page().post("/threads", {}, headers=headers)).status_code == 401


async def test_a_get_is_never_checked(user: Page) -> None:
    """F2"""
    for headers in ({}, EVIL, {"sec-fetch-site": "cross-site"}):
        assert (await user.get(f"{AUTH}/me", headers=headers)).status_code == 200
        assert (await user.get("/threads/" + str(uuid7()), headers=headers)).status_code == 404


async def test_a_bearer_token_needs_nothing_else(page: Open, user: Page) -> None:
    """Also if a browser sends cookies along: only the client itself can have put it there."""
    token = await user.token()
    for client, cookies in ((page(), "none"), (user, "along")):
        headers = {"authorization": f"Bearer {token}", **EVIL, "content-type": "text/plain"}
        answer = await client.call("POST", "/threads", csrf=False, headers=headers, content=b"{}")
        assert answer.status_code == 200, cookies


async def test_what_begins_and_ends_a_session_needs_no_token(page: Open) -> None:
    """F2: login, logout and register are exempt, with a slash, too; `/login` is not."""
    one = page()
    body = {"email": one.email, "password": PASSWORD}
    form = {"username": one.email, "password": PASSWORD}
    assert (await one.post(f"{AUTH}/register/", body, csrf=False)).status_code == 201
    for slash in ("", "/"):
        assert (
            await one.call("POST", f"{AUTH}/login/local{slash}", csrf=False, data=form)
        ).status_code == 200
        assert refused(await one.call("POST", f"{AUTH}/login{slash}", csrf=False, data=form)) == MISSING
        assert (await one.call("POST", f"{AUTH}/logout{slash}", csrf=False)).status_code == 200
    answer = await one.call("POST", f"{AUTH}/login/local", csrf=False, data=form)
    assert cookies_of(answer)["csrf_token"].attributes["samesite"] == "strict"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
async def test_by_cookie_a_body_is_json(user: Page, kind: str | None) -> None:
    """Anything else a form of another site could send."""
    headers = {"content-type": kind} if kind is not None else {}
    answer = await user.call("POST", "/threads", headers=headers, content=b"{}")
    assert answer.status_code == 415
    assert answer.headers["x-content-type-options"] == "nosniff"


# GETs that change something


async def test_a_link_cancels_no_run(user: Page) -> None:
    """6.2 no. 5: the cookie goes along with a link that is followed from another site."""
    thread = (await user.post("/threads", {})).json()["thread_id"]
    run = await user.post(f"/threads/{thread}/runs", {"assistant_id": "agent", "after_seconds": 600})
    path = f"/threads/{thread}/runs/{run.json()['run_id']}"
    for query in ("cancel_on_disconnect=1", "cancel%5Fon_disconnect=true", "action=interrupt"):
        for end in ("stream", "join"):
            for headers in ({}, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "none"}, EVIL):
                assert refused(await user.get(f"{path}/{end}?{query}", headers=headers)) == MISSING
    assert (await user.get(path)).json()["status"] == "pending"
    # AND our own page may, as its GETs have no token
    here = {"sec-fetch-site": "same-origin"}
    async with user.client.stream("GET", f"{path}/stream?cancel_on_disconnect=1", headers=here) as answer:
        assert answer.status_code == 200
    async with user.client.stream("GET", f"{path}/stream?cancel_on_disconnect=0", headers=EVIL) as answer:
        assert answer.status_code == 200


# Where a login comes from


def logins(one: Page) -> list[tuple[str, dict[str, Any]]]:
    """The requests that begin or end a session, and what is sent with them."""
    body = {"email": one.email, "password": PASSWORD}
    form = {"username": one.email, "password": PASSWORD}
    return [
        ("register", {"json": body}),
        ("login/local", {"data": form}),
        ("token", {"data": form}),
        ("initialize", {"json": body}),
        ("logout", {}),
    ]


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize(
    "said",
    [
        EVIL,
        {"origin": "null"},
        {"origin": "{url}/path"},
        {"origin": "http://user@{host}"},
        {"origin": "http://127.0.0.1:99999"},
        {"origin": "https://{host}"},
        {"origin": "http://127.0.0.1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {**EVIL, "x-csrf-token": "x", "cookie": "csrf_token=x"},
        {**EVIL, "sec-fetch-site": "same-origin"},
    ],
    ids=str,
)
async def test_another_site_logs_nobody_in_or_out(page: Open, said: dict[str, str], slash: str) -> None:
    """F1: a hostile Origin, or one with a path, credentials or a bad port."""
    one = page()
    url = str(one.client.base_url).rstrip("/")
    headers = {name: value.format(url=url, host=urlsplit(url).netloc) for name, value in said.items()}
    for path, sent in logins(one):
        answer = await one.call("POST", f"{AUTH}/{path}{slash}", csrf=False, headers=headers, **sent)
        assert refused(answer) == CROSS_SITE, path
        assert cookies_of(answer) == {}
    # AND nobody was registered
    assert (await one.login()).status_code == 401


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"origin": "{url}"},
        {"origin": "{url}", "sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
        {"origin": "https://app.example", "x-forwarded-host": "app.example", "x-forwarded-proto": "https"},
        {
            "origin": "https://app.example:443",
            "x-forwarded-host": "app.example:443",
            "x-forwarded-proto": "https",
        },
        {"origin": "http://app.example:8080", "x-forwarded-host": "app.example", "x-forwarded-port": "8080"},
        {
            "origin": "https://app.example",
            "x-forwarded-host": "app.example, b",
            "x-forwarded-proto": "https, http",
        },
        {
            "origin": "https://app.example:8443",
            "forwarded": 'for=1.2.3.4;proto=https;host="app.example:8443"',
        },
        {"origin": "https://app.example", "host": "app.example", "x-forwarded-proto": "https"},
    ],
    ids=str,
)
async def test_our_page_logs_in_and_out(page: Open, said: dict[str, str]) -> None:
    """F1: no Origin, the same origin, an equal default port, what a trusted proxy has forwarded."""
    one = page()
    headers = {name: value.format(url=str(one.client.base_url).rstrip("/")) for name, value in said.items()}
    statuses = [
        (path, (await one.call("POST", f"{AUTH}/{path}", csrf=False, headers=headers, **sent)).status_code)
        for path, sent in logins(one)
        if path != "initialize"
    ]
    assert statuses == [("register", 201), ("login/local", 200), ("token", 200), ("logout", 200)]


# WebSockets


async def closed(user: Page, origin: str | None) -> int | None:
    """What a WebSocket with the user's cookie is closed with at once; None if it stays open."""
    thread = (await user.post("/threads", {})).json()["thread_id"]
    url = f"{str(user.client.base_url).rstrip('/')}/threads/{thread}"
    return await close_code(url, f"access_token={user.cookie('access_token')}", origin)


async def test_a_websocket_by_cookie_is_one_of_our_pages(user: Page) -> None:
    assert await closed(user, str(user.client.base_url).rstrip("/")) is None
    for origin in (None, "null", "https://evil.example", "http://127.0.0.1"):
        assert await closed(user, origin) == 4403


# Other servers


@asynccontextmanager
async def server(database_uri: str, folder: Path, **env: str) -> AsyncIterator[Page]:
    """A page of a server with accounts and these settings."""
    settings = {"SLACKWATER_ACCOUNTS": "true", "SLACKWATER_SETUP": "open", **env}
    async with fleet_of(database_uri, folder, PROJECT, settings) as fleet:
        (process,) = await fleet.start()
        one = Page(process.url, {})
        try:
            yield one
        finally:
            await one.close()


async def test_listed_pages_log_in(database_uri: str, tmp_path: Path) -> None:
    """F1: configured origins pass."""
    origins = "https://chat.example,https://port.example:443"
    async with server(database_uri, tmp_path, SLACKWATER_CORS_ALLOW_ORIGINS=origins) as one:
        for origin in ("https://chat.example", "https://port.example", "https://chat.example:443"):
            headers = {"origin": origin, "sec-fetch-site": "cross-site"}
            assert (await one.logout(headers=headers)).status_code == 200
        assert refused(await one.logout(headers=EVIL)) == CROSS_SITE
        assert (await one.register(headers={"origin": "https://chat.example"})).status_code == 201
        assert await closed(one, "https://chat.example") is None
        assert await closed(one, "https://evil.example") == 4403


@pytest.mark.parametrize(
    "env",
    [
        {"SLACKWATER_CORS_ALLOW_ORIGINS": "*"},
        {"SLACKWATER_CORS_CONFIG": '{"allow_origins": ["*"], "allow_credentials": true}'},
        {"SLACKWATER_CORS_CONFIG": '{"allow_origin_regex": ".*", "allow_credentials": true}'},
    ],
    ids=str,
)
async def test_a_wildcard_is_no_allowance(database_uri: str, tmp_path: Path, env: dict[str, str]) -> None:
    """F1"""
    async with server(database_uri, tmp_path, **env) as one:
        for origin in ("https://evil.example", "*", "null"):
            assert refused(await one.register(headers={"origin": origin})) == CROSS_SITE


async def test_who_is_not_trusted_chooses_neither_scheme_nor_host(database_uri: str, tmp_path: Path) -> None:
    """6.2 no. 8: the Secure flag and the check of the Origin went by headers that anybody could send."""
    async with server(database_uri, tmp_path) as one:
        for said in (
            {"x-forwarded-host": "evil.example", "x-forwarded-proto": "https"},
            {"forwarded": "proto=https;host=evil.example"},
        ):
            for origin in ("https://evil.example", "http://evil.example"):
                assert refused(await one.register(headers={"origin": origin, **said})) == CROSS_SITE
            answer = await one.logout(headers=said)
            assert "strict-transport-security" not in answer.headers
        answer = await one.register(headers={"x-forwarded-proto": "https"})
        assert answer.status_code == 201
        assert not any(cookie.attributes.get("secure") for cookie in cookies_of(answer).values())
        # AND a server of pages on this machine, which says only by which host it was called, needs no setting
        next_js = {"origin": "http://localhost:3000", "x-forwarded-host": "localhost:3000"}
        assert (await one.login(headers=next_js)).status_code == 200
        assert refused(await one.login(headers={"origin": "http://localhost:3000"})) == CROSS_SITE
