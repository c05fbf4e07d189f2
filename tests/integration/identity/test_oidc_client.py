"""Requests to a provider: a real one, which does right, and which does wrong."""

from __future__ import annotations

from typing import Any

import pytest
from support.provider import CLIENT_ID, CLIENT_SECRET, TestProvider, parameters_of
from support.server import free_port

from slackwater.identity.oidc import client as module
from slackwater.identity.oidc.client import ProviderClient
from slackwater.identity.oidc.errors import ProviderRefused, ProviderUnavailable
from slackwater.identity.oidc.id_token import UnknownKey, verify
from slackwater.identity.oidc.login import Login
from slackwater.identity.oidc.provider import Provider

REDIRECT_URI = "http://127.0.0.1:2024/api/v1/auth/callback/oidc"
WELL_KNOWN = "/.well-known/openid-configuration"


def client_of(at: TestProvider, **changes: Any) -> ProviderClient:
    values = {"issuer": at.issuer, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, **changes}
    return ProviderClient(Provider.of(values))


def a_login() -> Login:
    return Login.begin("oidc", REDIRECT_URI, "/")


async def code_for(at: TestProvider, client: ProviderClient, login: Login) -> str:
    """The code that a user brings back."""
    answer = parameters_of(await at.consent(await client.url_for(login, await client.metadata())))
    assert answer["state"] == login.state
    return answer["code"]


async def test_a_code_is_worth_an_id_token_of_this_login(at: TestProvider) -> None:
    client, login = client_of(at), a_login()
    code = await code_for(at, client, login)
    metadata = await client.metadata()
    tokens = await client.tokens(login, metadata, code)
    claims = verify(
        tokens["id_token"],
        await client.keys(metadata),
        issuer=at.issuer,
        client_id=CLIENT_ID,
        nonce=login.nonce,
        access_token=tokens["access_token"],
    )
    assert (claims["email"], claims["email_verified"]) == ("alice@example.com", True)
    assert (await client.userinfo(metadata, tokens["access_token"]))["sub"] == claims["sub"]


async def test_the_browser_takes_along_a_challenge_and_not_the_verifier(at: TestProvider) -> None:
    client, login = client_of(at), a_login()
    url = await client.url_for(login, await client.metadata())
    sent = parameters_of(url)
    assert login.verifier not in url
    assert (sent["code_challenge_method"], sent["response_type"], sent["scope"]) == (
        "S256",
        "code",
        "openid email",
    )
    assert (sent["state"], sent["nonce"], sent["redirect_uri"]) == (login.state, login.nonce, REDIRECT_URI)


async def test_a_code_is_worth_nothing_to_another_login_and_nothing_twice(at: TestProvider) -> None:
    client, login = client_of(at), a_login()
    metadata = await client.metadata()
    stolen = await code_for(at, client, login)
    with pytest.raises(ProviderRefused):
        await client.tokens(a_login(), metadata, stolen)
    code = await code_for(at, client, login)
    await client.tokens(login, metadata, code)
    with pytest.raises(ProviderRefused):
        await client.tokens(login, metadata, code)


async def test_a_provider_may_want_the_secret_in_the_body(at: TestProvider) -> None:
    await at.control(metadata={"token_endpoint_auth_methods_supported": ["client_secret_post"]})
    client, login = client_of(at), a_login()
    code = await code_for(at, client, login)
    assert await client.tokens(login, await client.metadata(), code)


async def test_a_wrong_secret_is_the_servers_fault_and_not_the_users(at: TestProvider) -> None:
    client, login = client_of(at, client_secret="wrong"), a_login()
    code = await code_for(at, client, login)
    with pytest.raises(ProviderUnavailable):
        await client.tokens(login, await client.metadata(), code)


async def test_what_a_provider_says_of_itself_is_asked_once(at: TestProvider) -> None:
    client = client_of(at)
    for _ in range(3):
        metadata = await client.metadata()
        await client.keys(metadata)
    assert (await at.seen(WELL_KNOWN), await at.seen("/jwks")) == (1, 1)


async def test_it_is_asked_again_later_and_relied_on_while_it_does_not_answer(
    at: TestProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of(at)
    monkeypatch.setattr(module, "FRESH_SECONDS", 0.0)
    metadata = await client.metadata()
    await at.control(metadata={"userinfo_endpoint": None})
    assert (await client.metadata()).userinfo_endpoint is None
    await at.control(metadata={}, faults=[f"failing {WELL_KNOWN}"])
    assert (await client.metadata()).token_endpoint == metadata.token_endpoint
    assert await at.seen(WELL_KNOWN) == 3
    monkeypatch.setattr(module, "STALE_SECONDS", 0.0)
    with pytest.raises(ProviderUnavailable):
        await client.metadata()


async def test_new_keys_are_asked_for_when_the_old_ones_do_not_verify(at: TestProvider) -> None:
    client = client_of(at)
    metadata = await client.metadata()
    await client.keys(metadata)
    await at.control(rotate=True)
    login = a_login()
    tokens = await client.tokens(login, metadata, await code_for(at, client, login))
    told = {"issuer": at.issuer, "client_id": CLIENT_ID, "nonce": login.nonce, "access_token": None}
    with pytest.raises(UnknownKey):
        verify(tokens["id_token"], await client.keys(metadata), **told)
    assert verify(tokens["id_token"], await client.new_keys(metadata), **told)
    assert verify(tokens["id_token"], await client.keys(metadata), **told)
    assert await at.seen("/jwks") == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "https://evil.example"},
        {"issuer": None},
        {"token_endpoint": "http://id.example.com/token"},
        {"jwks_uri": "file:///etc/passwd"},
        {"authorization_endpoint": None},
        {"userinfo_endpoint": "http://169.254.169.254/"},
        {"code_challenge_methods_supported": ["plain"]},
    ],
)
async def test_a_provider_that_is_not_as_it_should_be_is_not_used(
    at: TestProvider, changes: dict[str, Any]
) -> None:
    await at.control(metadata=changes)
    with pytest.raises(ProviderUnavailable):
        await client_of(at).metadata()


@pytest.mark.parametrize("fault", ["huge", "packed", "redirected", "failing", "nested"])
async def test_an_answer_that_is_none_is_broken_off(at: TestProvider, fault: str) -> None:
    client, login = client_of(at), a_login()
    metadata = await client.metadata()
    code = await code_for(at, client, login)
    await at.control(faults=[f"{fault} /jwks", f"{fault} /token", f"{fault} /userinfo"])
    with pytest.raises(ProviderUnavailable):
        await client.tokens(login, metadata, code)
    with pytest.raises(ProviderUnavailable):
        await client.keys(metadata)
    with pytest.raises(ProviderUnavailable):
        await client.userinfo(metadata, "x")
    assert await at.seen("/elsewhere") == 0


async def test_nobody_waits_for_a_provider_for_long(
    at: TestProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, login = client_of(at), a_login()
    metadata = await client.metadata()
    code = await code_for(at, client, login)
    monkeypatch.setattr(module, "REQUEST_SECONDS", 0.2)
    await at.control(held=["/token", "/jwks"])
    with pytest.raises(ProviderUnavailable):
        await client.tokens(login, metadata, code)
    with pytest.raises(ProviderUnavailable):
        await client.keys(metadata)


async def test_a_provider_that_is_not_there_is_unavailable() -> None:
    values = {"issuer": f"http://127.0.0.1:{free_port()}", "client_id": CLIENT_ID}
    with pytest.raises(ProviderUnavailable):
        await ProviderClient(Provider.of(values)).metadata()
