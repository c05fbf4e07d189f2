"""Logging in by a provider: a real one, over HTTP, and what it or anybody else may try."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
from support.api import Api
from support.provider import ALICE, TestProvider, parameters_of

from slackwater.identity.oidc import client as oidc_client
from slackwater.identity.oidc import service as oidc_service

AUTH = "/api/v1/auth"
BEGIN = f"{AUTH}/oauth/oidc"
PASSWORD = "a long and quiet tide"


@dataclass
class Browser:
    """A user's, which goes where it is sent."""

    http: httpx.AsyncClient
    at: TestProvider

    async def begin(self, next: str | None = None) -> httpx.Response:
        return await self.http.get(BEGIN if next is None else f"{BEGIN}?next={quote(next, safe='')}")

    async def to_the_provider_and_back(self, next: str | None = None) -> str:
        """Where the provider sends it: the callback, as a path."""
        begun = await self.begin(next)
        assert begun.status_code == 302, begun.text
        return path_of(await self.at.consent(begun.headers["location"]))

    async def log_in(self, next: str | None = None) -> httpx.Response:
        return await self.http.get(await self.to_the_provider_and_back(next))

    async def me(self) -> httpx.Response:
        return await self.http.get(f"{AUTH}/me")


def path_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def refusal_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["detail"]["code"]


async def people(api: Api) -> tuple[int, int]:
    """How many users there are, and how many sessions."""
    (row,) = await api.database.fetch(
        "select (select count(*) from slackwater.users) as users, (select count(*) from slackwater.sessions) as sessions"
    )
    return row["users"], row["sessions"]


@pytest.fixture
def open_to(serve: Callable[..., Any], at: TestProvider) -> Callable[..., Any]:
    """Serves users of the provider."""

    def open_to(**settings: Any) -> Any:
        return serve(**{"accounts": True, "setup": "open", "oidc_provision": True, **at.settings, **settings})

    return open_to


@pytest.fixture
async def api(open_to: Callable[..., Any]) -> AsyncIterator[Api]:
    async with open_to() as api:
        yield api


@pytest.fixture
def browser(api: Api, at: TestProvider) -> Browser:
    return Browser(api.client(), at)


# A login


async def test_a_login_leads_to_the_page_and_has_a_session(api: Api, browser: Browser) -> None:
    done = await browser.log_in("/workspace?tab=1")
    assert (done.status_code, done.headers["location"]) == (303, "/workspace?tab=1")
    assert done.headers["cache-control"] == "no-store"
    me = (await browser.me()).json()
    assert (me["email"], me["system_role"], me["needs_setup"]) == ("alice@example.com", "user", False)
    # The session's cookies, and no more of the login's.
    assert set(browser.http.cookies) == {"access_token", "csrf_token"}
    assert await people(api) == (1, 1)


async def test_a_login_without_a_path_leads_home(browser: Browser) -> None:
    assert (await browser.log_in()).headers["location"] == "/"


async def test_who_comes_back_is_the_same_user_whatever_their_address_is_now(
    api: Api, browser: Browser, at: TestProvider
) -> None:
    await browser.log_in()
    first = (await browser.me()).json()
    await at.control(user={**ALICE, "email": "alice.married@example.com"})
    again = Browser(api.client(), at)
    await again.log_in()
    assert (await again.me()).json() == first
    assert await people(api) == (1, 2)


async def test_who_has_the_address_of_somebody_who_has_left_is_not_them(
    api: Api, browser: Browser, at: TestProvider
) -> None:
    await browser.log_in()
    await at.control(user={**ALICE, "sub": "another alice"})
    assert refusal_of(await Browser(api.client(), at).log_in()) == (400, "email_already_exists")
    assert await people(api) == (1, 1)


async def test_the_pages_know_which_providers_there_are(api: Api) -> None:
    assert (await api.client().get(f"{AUTH}/setup-status")).json()["providers"] == ["oidc"]


async def test_a_provider_never_says_who_is_an_administrator(browser: Browser, at: TestProvider) -> None:
    roles = {
        "role": "admin",
        "roles": ["admin"],
        "groups": ["admin"],
        "system_role": "admin",
        "is_admin": True,
    }
    await at.control(user={**ALICE, **roles})
    await browser.log_in()
    assert (await browser.me()).json()["system_role"] == "user"


async def test_a_provider_that_puts_the_address_elsewhere_is_asked_for_it(
    api: Api, browser: Browser, at: TestProvider
) -> None:
    await at.control(faults=["thin token"])
    assert (await browser.log_in()).status_code == 303
    await at.control(faults=["thin token", "another user in userinfo"])
    assert refusal_of(await Browser(api.client(), at).log_in()) == (401, "invalid_id_token")


async def test_a_provider_may_have_new_keys(api: Api, browser: Browser, at: TestProvider) -> None:
    assert (await browser.log_in()).status_code == 303
    await at.control(rotate=True)
    assert (await Browser(api.client(), at).log_in()).status_code == 303
    assert await at.seen("/jwks") == 2


# Where it leads to


async def test_a_login_leads_to_no_other_site(browser: Browser) -> None:
    for next in (
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "/%2F/evil.example",
        "/a%5C..%5Cb",
        "x",
    ):
        assert refusal_of(await browser.begin(next)) == (400, "invalid_next"), next


async def test_there_are_only_the_providers_that_there_are(api: Api, browser: Browser) -> None:
    for path in (f"{AUTH}/oauth/github", f"{AUTH}/callback/github?code=a&state=b"):
        assert refusal_of(await api.client().get(path)) == (404, "provider_not_found"), path


async def test_without_a_provider_there_is_none(serve: Callable[..., Any]) -> None:
    async with serve(accounts=True) as api:
        assert refusal_of(await api.client().get(BEGIN)) == (404, "provider_not_found")
        assert (await api.client().get(f"{AUTH}/setup-status")).json().get("providers") is None


# Whose it is


async def test_the_answer_counts_in_the_browser_that_has_begun(
    api: Api, browser: Browser, at: TestProvider
) -> None:
    callback = await browser.to_the_provider_and_back()
    # WHEN somebody else is made to open it, who has begun none, or one of their own
    assert refusal_of(await api.client().get(callback)) == (400, "login_expired")
    victim = Browser(api.client(), at)
    await victim.begin()
    assert refusal_of(await victim.http.get(callback)) == (400, "login_expired")
    # THEN the one whose it is still gets in
    assert (await browser.http.get(callback)).status_code == 303


async def test_an_answer_counts_once(api: Api, browser: Browser) -> None:
    callback = await browser.to_the_provider_and_back()
    kept = dict(browser.http.cookies)
    assert (await browser.http.get(callback)).status_code == 303
    assert refusal_of(await browser.http.get(callback)) == (400, "login_expired")
    # Nor with the cookie that was deleted, as if the answer had not arrived.
    late = api.client()
    late.cookies.update(kept)
    assert refusal_of(await late.get(callback)) == (400, "login_expired")
    assert await people(api) == (1, 1)


async def test_a_token_for_something_else_begins_no_login(api: Api, browser: Browser) -> None:
    callback = await browser.to_the_provider_and_back()
    (name,) = browser.http.cookies
    login = browser.http.cookies[name]
    await browser.http.get(callback)
    session = browser.http.cookies["access_token"]
    for wrong in (session, login[:-3] + "AAA", login.partition(".")[2], "x", ""):
        other = api.client(cookie=f"{name}={wrong}")
        assert refusal_of(await other.get(callback)) == (400, "login_expired"), wrong
    # And a login's is no session.
    for shown in ({"cookie": f"access_token={login}"}, {"authorization": f"Bearer {login}"}):
        assert (await api.client(**shown).get(f"{AUTH}/me")).status_code == 401


async def test_whoever_says_no_at_the_provider_is_not_logged_in(browser: Browser, at: TestProvider) -> None:
    await at.control(faults=["denied"])
    refused = await browser.log_in()
    assert refusal_of(refused) == (403, "provider_refused")
    assert "access_denied" in refused.json()["detail"]["message"]


async def test_another_login_may_be_begun_meanwhile(browser: Browser) -> None:
    first = await browser.to_the_provider_and_back()
    second = await browser.to_the_provider_and_back()
    assert refusal_of(await browser.http.get(first)) == (400, "login_expired")
    second = await browser.to_the_provider_and_back()
    assert (await browser.http.get(second)).status_code == 303


# What a provider may do wrong

WRONG_TOKENS = (
    {"claims": {"nonce": "another"}},
    {"claims": {"nonce": None}},
    {"claims": {"aud": "another"}},
    {"claims": {"aud": ["slackwater", "another"]}},
    {"claims": {"azp": "another"}},
    {"claims": {"iss": "https://evil.example"}},
    {"claims": {"exp": 1}},
    {"claims": {"iat": 4_000_000_000}},
    {"claims": {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}},
    {"claims": {"sub": None}},
    {"faults": ["alg none"]},
    {"faults": ["public key as secret"]},
    {"faults": ["client secret"]},
    {"faults": ["foreign key"]},
    {"faults": ["unlisted key"]},
    {"faults": ["no id token"]},
)


async def test_an_id_token_that_is_not_right_logs_nobody_in(api: Api, at: TestProvider) -> None:
    for wrong in WRONG_TOKENS:
        await at.control(**{"claims": {}, "faults": [], **wrong})
        browser = Browser(api.client(), at)
        assert refusal_of(await browser.log_in()) == (401, "invalid_id_token"), wrong
        assert (await browser.me()).status_code == 401
    assert await people(api) == (0, 0)


async def test_an_answer_to_something_else_logs_nobody_in(api: Api, at: TestProvider) -> None:
    for fault in ("another state", "another issuer"):
        await at.control(faults=[fault])
        assert refusal_of(await Browser(api.client(), at).log_in()) == (400, "login_expired"), fault
    assert await people(api) == (0, 0)
    assert await at.seen("/token") == 0


async def test_a_provider_that_says_who_it_is_has_to(browser: Browser, at: TestProvider) -> None:
    await at.control(metadata={"authorization_response_iss_parameter_supported": True})
    callback = await browser.to_the_provider_and_back()
    without = callback.partition("&iss=")[0]
    assert refusal_of(await browser.http.get(without)) == (400, "login_expired")


UNVERIFIED = (
    {**ALICE, "email_verified": False},
    {**ALICE, "email_verified": "true"},
    {**ALICE, "email_verified": 1},
    {"sub": "x", "email": "alice@example.com"},
    {"sub": "x", "email_verified": True},
    {**ALICE, "email": "alice@evil.example@example.com"},
    {**ALICE, "email": "alice@\u212aelvin.example"},
)
FOREIGN = (
    {**ALICE, "email": "alice@evil.example"},
    {**ALICE, "email": "alice@sub.example.com"},
    {**ALICE, "email": "alice@notexample.com"},
)


async def test_only_a_verified_address_of_a_domain_of_ours_lets_in(
    open_to: Callable[..., Any], at: TestProvider
) -> None:
    async with open_to(oidc_allowed_domains="example.com,kelvin.example") as api:
        for users, code in ((UNVERIFIED, "email_not_verified"), (FOREIGN, "email_domain_not_allowed")):
            for user in users:
                await at.control(user=user)
                assert refusal_of(await Browser(api.client(), at).log_in()) == (403, code), user
        assert await people(api) == (0, 0)
        await at.control(user={**ALICE, "email": "Alice@EXAMPLE.com"})
        assert (await Browser(api.client(), at).log_in()).status_code == 303


async def test_a_provider_that_does_not_answer_is_no_reason_to_begin_again(
    api: Api, browser: Browser, at: TestProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc_client, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(oidc_client, "STALE_SECONDS", 0.0)
    callback = await browser.to_the_provider_and_back()
    kept = dict(browser.http.cookies)
    await at.control(faults=["failing /.well-known/openid-configuration"])
    assert refusal_of(await browser.http.get(callback)) == (502, "provider_unavailable")
    await at.control(faults=[])
    browser.http.cookies.update(kept)
    assert (await browser.http.get(callback)).status_code == 303


async def test_only_so_many_ask_a_provider_at_a_time(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc_service, "AT_A_TIME", 0)
    assert (await browser.begin()).status_code == 503


# Whose account it is


async def registered(api: Api, email: str = "alice@example.com") -> httpx.AsyncClient:
    """A browser of a user who has a password."""
    client = api.client()
    answer = await client.post(f"{AUTH}/register", json={"email": email, "password": PASSWORD})
    assert answer.status_code == 201, answer.text
    return client


async def test_nobody_gets_into_an_account_with_a_password_by_its_address(api: Api, browser: Browser) -> None:
    await registered(api)
    assert refusal_of(await browser.log_in()) == (400, "email_already_exists")
    assert (await browser.me()).status_code == 401
    assert await people(api) == (1, 1)


async def test_who_is_new_needs_to_be_let_in(open_to: Callable[..., Any], at: TestProvider) -> None:
    async with open_to(oidc_provision=False) as api:
        assert (await Browser(api.client(), at).log_in()).status_code == 403
        assert await people(api) == (0, 0)


async def test_a_user_who_is_disabled_is_not_let_in(api: Api, browser: Browser, at: TestProvider) -> None:
    await browser.log_in()
    await api.database.execute(
        "update slackwater.users set disabled_at = now(), token_version = token_version + 1"
    )
    assert (await Browser(api.client(), at).log_in()).status_code == 403
    assert (await people(api))[0] == 1


# A provider that is added to an account


async def link(browser: Browser, next: str | None = None) -> httpx.Response:
    """Ask to add the provider, as a page of ours does."""
    headers = {"x-csrf-token": browser.http.cookies["csrf_token"]}
    return await browser.http.post(f"{BEGIN}/link", params={"next": next} if next else {}, headers=headers)


async def test_whoever_is_logged_in_may_add_a_provider(api: Api, at: TestProvider) -> None:
    browser = Browser(await registered(api, "maria@example.com"), at)
    begun = await link(browser, "/settings")
    assert begun.status_code == 200, begun.text
    done = await browser.http.get(path_of(await at.consent(begun.json()["url"])))
    assert (done.status_code, done.headers["location"]) == (303, "/settings")
    # THEN the provider logs them in
    other = Browser(api.client(), at)
    assert (await other.log_in()).status_code == 303
    assert (await other.me()).json() == (await browser.me()).json()
    # AND it can be added once more, and not by anybody else
    begun = await link(browser)
    assert (await browser.http.get(path_of(await at.consent(begun.json()["url"])))).status_code == 303
    thief = Browser(await registered(api, "thief@example.com"), at)
    begun = await link(thief)
    refused = await thief.http.get(path_of(await at.consent(begun.json()["url"])))
    assert refusal_of(refused) == (409, "identity_taken")
    assert [
        row["action"]
        for row in await api.database.fetch(
            "select action from slackwater.audit where action = 'identity.linked'"
        )
    ] == ["identity.linked"] * 2


async def test_nobody_else_adds_a_provider_to_an_account(api: Api, at: TestProvider) -> None:
    browser = Browser(await registered(api, "maria@example.com"), at)
    assert (await api.client().post(f"{BEGIN}/link")).status_code == 401
    # Nor does a page of another site.
    assert (await browser.http.post(f"{BEGIN}/link")).status_code == 403
    # Nor does the answer count for somebody else, in the same browser or another one, or for nobody.
    begun = await link(browser)
    callback = path_of(await at.consent(begun.json()["url"]))
    login = browser.http.cookies["oidc_login"]
    thief = await registered(api, "thief@example.com")
    thief.cookies.set("oidc_login", login)
    assert refusal_of(await thief.get(callback)) == (400, "login_expired")
    assert refusal_of(await api.client(cookie=f"oidc_login={login}").get(callback)) == (400, "login_expired")
    assert (await browser.http.get(callback)).status_code == 303


# Where it comes back to


async def test_it_comes_back_to_the_host_that_was_called(api: Api, at: TestProvider) -> None:
    sent = parameters_of((await api.client().get(BEGIN)).headers["location"])
    assert sent["redirect_uri"] == "http://127.0.0.1:2024/api/v1/auth/callback/oidc"


async def test_it_comes_back_over_tls_where_a_trusted_proxy_has_it(
    open_to: Callable[..., Any], at: TestProvider
) -> None:
    async with open_to(trusted_proxies="127.0.0.1") as api:
        proxied = {"x-forwarded-proto": "https", "x-forwarded-host": "chat.example.com"}
        begun = await api.client(**proxied).get(BEGIN)
        sent = parameters_of(begun.headers["location"])
        assert sent["redirect_uri"] == "https://chat.example.com/api/v1/auth/callback/oidc"
        cookie = begun.headers["set-cookie"]
        assert cookie.startswith("__Host-oidc_login=")
        for part in ("HttpOnly", "Secure", "SameSite=lax", "Path=/", "Max-Age=600"):
            assert part in cookie


async def test_it_comes_back_to_where_the_settings_say(open_to: Callable[..., Any], at: TestProvider) -> None:
    async with open_to(public_url="https://chat.example.com/gateway/") as api:
        sent = parameters_of((await api.client().get(BEGIN)).headers["location"])
        assert sent["redirect_uri"] == "https://chat.example.com/gateway/api/v1/auth/callback/oidc"
