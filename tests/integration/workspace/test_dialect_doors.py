"""What surrounds the dialect: that it is there only with the gateway, its errors, its health, and where it can be mounted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from slackwater.errors import SettingsError
from tests.support.page import PASSWORD, cookies_of

PROJECT = Path(__file__).parent / "dialect"


async def test_without_the_gateway_nothing_of_it_is_there(serve: Callable[..., Any]) -> None:
    async with serve(project=PROJECT) as api:
        client = api.client()
        assert (await client.get("/health")).json() == {"status": "alive"}
        for path in ("/api/threads", "/api/langgraph/threads"):
            assert (await client.post(path, json={})).status_code == 404
        assert not [path for path in api.app.openapi()["paths"] if path.startswith("/api/threads")]
        assert (await client.post("/threads", json={})).status_code == 200


async def test_with_the_gateway_both_doors_are_open(serve: Callable[..., Any]) -> None:
    """A13, O6, and the seed's `/health`."""
    async with serve(project=PROJECT, gateway=True, names=("ann",)) as api:
        nobody, ann = api.client(), api.client("ann")
        assert (await nobody.get("/health")).json() == {"status": "healthy", "service": "slackwater"}
        for path in ("/api/threads/search", "/api/langgraph/threads/search", "/api/nothing"):
            refused = await nobody.post(path, json={})
            assert (refused.status_code, refused.json()["detail"]["code"]) == (401, "not_authenticated")
        assert isinstance((await nobody.post("/threads/search", json={})).json()["detail"], str)
        thread = (await ann.post("/api/langgraph/threads", json={})).json()["thread_id"]
        for path in (f"/threads/{thread}", f"/api/threads/{thread}", f"/api/langgraph/threads/{thread}"):
            assert (await ann.get(path)).json()["thread_id"] == thread
        taken = await ann.post("/threads", json={"thread_id": thread})
        assert taken.status_code == 409  # the official API stays as it is
        assert (await ann.post("/api/langgraphs/threads", json={})).status_code == 404
        ids = [
            shown["operationId"] for item in api.app.openapi()["paths"].values() for shown in item.values()
        ]
        assert len(ids) == len(set(ids))


@pytest.mark.parametrize("prefix", ["/api", "/api/langgraph"])
async def test_the_api_cannot_be_mounted_where_the_gateway_is(serve: Callable[..., Any], prefix: str) -> None:
    with pytest.raises(SettingsError, match=f"remove the mount prefix {prefix} "):
        async with serve(project=PROJECT, gateway=True, mount_prefix=prefix):
            pass


async def test_the_dialect_can_be_mounted_elsewhere(serve: Callable[..., Any]) -> None:
    async with serve(project=PROJECT, gateway=True, mount_prefix="/lg") as api:
        client = api.client()
        thread = (await client.post("/lg/api/langgraph/threads", json={})).json()["thread_id"]
        assert (await client.get(f"/lg/api/threads/{thread}")).json()["thread_id"] == thread
        assert (await client.post("/api/threads", json={})).status_code == 404


async def test_a_page_behind_a_proxy_that_says_only_its_host(serve: Callable[..., Any]) -> None:
    """Section 1, 'browser to Next directly': `Host` is ours, and the page's is in X-Forwarded-Host alone. F1, F2."""
    async with serve(
        project=PROJECT,
        gateway=True,
        accounts=True,
        setup="open",
        registration="open",
        trusted_proxies=("10.0.0.1",),
    ) as api:
        page = {"origin": "http://chat.example:3000", "x-forwarded-host": "chat.example:3000"}
        account = {"email": "ann@example.org", "password": PASSWORD}
        stranger = api.client(peer="10.0.0.2", **page)
        refused = await stranger.post("/api/v1/auth/initialize", json=account)
        assert (refused.status_code, refused.json()["detail"]) == (403, "Cross-site auth request denied.")
        browser = api.client(peer="10.0.0.1", **page)
        made = await browser.post("/api/v1/auth/initialize", json=account)
        assert made.status_code == 201, made.text
        token = cookies_of(made)["csrf_token"].value
        for headers, sentence in (
            ({}, "CSRF token missing. Include X-CSRF-Token header."),
            ({"x-csrf-token": "x"}, "CSRF token mismatch."),
        ):
            denied = await browser.post("/api/langgraph/threads", json={}, headers=headers)
            assert (denied.status_code, denied.json()["detail"]) == (403, sentence)
        thread = str(uuid4())
        body = {
            "assistant_id": "lead_agent",
            "input": {"messages": [{"type": "human", "content": "a"}]},
            "context": {"user_id": "somebody-else", "is_bootstrap": True},
        }
        path = f"/api/langgraph/threads/{thread}/runs/wait"
        answer = await browser.post(path, json=body, headers={"x-csrf-token": token})
        me = (await browser.get("/api/v1/auth/me")).json()
        assert answer.json()["told"]["context"]["user_id"] == me["id"]  # L5, I7
        cancelling = await browser.get(
            f"/api/threads/{thread}/runs/{uuid4()}/stream?action=interrupt",
            headers={"origin": "http://evil.example"},
        )
        assert cancelling.status_code == 403
