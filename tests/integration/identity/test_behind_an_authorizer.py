"""Behind an authorizer of AWS: the event says who calls, on Lambda only, and a key that is sent comes first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from support.api import Api

from slackwater.errors import SettingsError

ISSUER = "https://issuer.example"
REFUSED = {"detail": "The authorizer in front of this server does not identify the caller."}
WRONG_KEY = {"detail": "Send a valid key in the x-api-key header."}


@pytest.fixture
def on_lambda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001")


def event_of(sub: str | None) -> dict[str, Any]:
    """An HTTP API's event; without `sub` there was no authorizer."""
    context: dict[str, Any] = {"http": {"sourceIp": "203.0.113.9"}}
    if sub is not None:
        context["authorizer"] = {"jwt": {"claims": {"iss": ISSUER, "sub": sub}}}
    return {"requestContext": context}


def behind(api: Api, event: dict[str, Any] | None, **headers: str) -> httpx.AsyncClient:
    """A client whose requests arrive in such an event."""

    async def in_event(scope: Any, receive: Any, send: Any) -> None:
        event_scope = {} if event is None else {"aws.event": event}
        await api.app({**scope, "state": dict(api.state), **event_scope}, receive, send)

    client = httpx.AsyncClient(
        transport=httpx.ASGITransport(in_event, client=("203.0.113.9", 50_000)),
        base_url="https://api.example",
        headers=headers,
    )
    api.stack.push_async_callback(client.aclose)
    return client


async def owners(api: Api) -> list[str]:
    rows = await api.database.fetch("select owner from slackwater.threads order by owner")
    return [row["owner"] for row in rows]


@pytest.mark.usefixtures("on_lambda")
async def test_whoever_the_authorizer_names_is_the_owner(serve: Callable[..., Any]) -> None:
    async with serve(authorizer="jwt") as api:
        alice, bob = behind(api, event_of("alice")), behind(api, event_of("bob"))
        thread = (await alice.post("/threads", json={})).json()["thread_id"]

        assert (await alice.get(f"/threads/{thread}")).status_code == 200
        assert (await bob.get(f"/threads/{thread}")).status_code == 404
        assert await owners(api) == [f"jwt:{ISSUER}:alice"]


@pytest.mark.usefixtures("on_lambda")
async def test_whom_nobody_named_is_refused(serve: Callable[..., Any], subtests: pytest.Subtests) -> None:
    async with serve(authorizer="jwt") as api:
        for event in (None, {}, event_of(None), event_of("")):
            # Not even one that claims to be this machine, or a gateway.
            for headers in (
                {},
                {"host": "127.0.0.1"},
                {"x-amzn-oidc-identity": "alice"},
                {"x-api-key": "sw_x"},
            ):
                with subtests.test(event=event, headers=headers):
                    answer = await behind(api, event, **headers).post("/threads", json={})
                    assert (answer.status_code, answer.json()) == (401, REFUSED)
        assert (await behind(api, None).get("/ok")).status_code == 200


@pytest.mark.usefixtures("on_lambda")
async def test_a_key_that_is_sent_comes_before_the_authorizer(serve: Callable[..., Any]) -> None:
    async with serve(authorizer="jwt", names=("carol",)) as api:
        right = behind(api, event_of("alice"), **{"x-api-key": api.secrets["carol"]})
        wrong = behind(api, event_of("alice"), **{"x-api-key": "sw_wrong"})
        empty = behind(api, event_of("alice"), **{"x-api-key": ""})
        none = behind(api, event_of("alice"))

        for client in (right, none):
            assert (await client.post("/threads", json={})).status_code == 200
        for client in (wrong, empty):
            answer = await client.post("/threads", json={})
            assert (answer.status_code, answer.json()) == (401, WRONG_KEY)
        assert await owners(api) == ["carol", f"jwt:{ISSUER}:alice"]


async def test_in_a_container_an_event_is_nobodys_word(serve: Callable[..., Any]) -> None:
    async with serve(authorizer="jwt", names=("carol",)) as api:
        answer = await behind(api, event_of("alice")).post("/threads", json={})
        assert (answer.status_code, answer.json()) == (401, WRONG_KEY)
    async with serve(authorizer="jwt") as api:
        assert (await behind(api, event_of("alice")).post("/threads", json={})).status_code == 403


@pytest.mark.usefixtures("on_lambda")
async def test_on_lambda_nothing_is_served_without_keys_and_authorizer(serve: Callable[..., Any]) -> None:
    with pytest.raises(SettingsError, match="without an API key or an authorizer"):
        async with serve():
            pass


async def test_on_lambda_nobody_is_this_machine(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second bolt: whatever a gateway calls the peer."""
    async with serve() as api:
        monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001")

        assert (await api.client(peer="127.0.0.1").post("/threads", json={})).status_code == 401
