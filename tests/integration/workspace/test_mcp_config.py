"""The configuration of MCP servers over HTTP: what is shown of it, and what is kept (1.19, K1 to K4, section 5)."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from slackwater.identity.scopes import KeyScope
from slackwater.identity.signing.encryption import Encryption
from slackwater.identity.stored_keys.service import create
from slackwater.workspace.mcp_servers.kept import KeptMcpConfig
from tests.support.api import Api

KEY, NEXT = (base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2))
URL = "/api/mcp/config"

GITHUB = {
    "type": "stdio",
    "command": "npx",
    "args": ["-y", "@modelcontextprotocol/server-github"],
    "env": {"GITHUB_TOKEN": "$GITHUB_TOKEN", "OTHER": "s3cret-env"},
    "description": "GitHub",
    "routing": {"mode": "s3cret-key-of-somebody-elses"},
}
WEATHER = {
    "type": "http",
    "url": "https://mcp.example.com/mcp?apiKey=s3cret-query&units",
    "headers": {"Authorization": "Bearer s3cret-header"},
    "oauth": {
        "token_url": "https://login.example.com/token?key=s3cret-token-query",
        "client_id": "us",
        "client_secret": "s3cret-client",
        "refresh_token": "s3cret-refresh",
    },
}
BOTH = {"github": GITHUB, "weather": WEATHER}


@pytest.fixture
async def api(serve: Callable[..., Any], tmp_path: Path) -> AsyncIterator[Api]:
    async with serve(
        gateway=True,
        blobs=f"file:{tmp_path}/blobs",
        names=("alice", "bob"),
        encryption_key=KEY,
        database_keys=True,
        mcp_commands="npx,uvx",
    ) as api:
        yield api


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def put(client: httpx.AsyncClient, servers: Any, status: int = 200, **more: Any) -> Any:
    answer = await client.put(URL, json={"mcp_servers": servers, **more})
    assert answer.status_code == status, answer.text
    return answer.json() if status == 200 else answer.json()["detail"]


async def got(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get(URL)
    assert answer.status_code == 200, answer.text
    servers: dict[str, Any] = answer.json()["mcp_servers"]
    return servers


def without_revision(servers: dict[str, Any]) -> dict[str, Any]:
    return {name: {k: v for k, v in one.items() if k != "revision"} for name, one in servers.items()}


async def kept(api: Api, key: str = KEY) -> dict[str, Any]:
    """What is stored, decrypted."""
    document = await KeptMcpConfig(api.database, Encryption.parse(key)).read()
    servers = {name: one.server.model_dump(mode="json") for name, one in document.servers.items()}
    return {"servers": servers, "other": dict(document.other)}


async def test_secrets_are_masked_kept_and_cleared(api: Api) -> None:
    """K1 to K4; 1.19: `$VAR` placeholders and unknown keys survive; 5: the exact answer."""
    alice = api.client("alice")
    assert (await alice.get(URL)).json() == {"mcp_servers": {}}
    # WHEN servers are configured, THEN the answer, and GET, have none of their secrets (K1)
    answer = await put(alice, BOTH, mcpInterceptors=["mine.interceptors:build"])
    shown = await got(alice)
    assert answer["mcp_servers"] == shown
    assert "s3cret" not in str(shown)
    assert without_revision(shown) == {
        "github": {
            "enabled": True,
            "type": "stdio",
            "command": "npx",
            "args": GITHUB["args"],
            "env": {"GITHUB_TOKEN": "***", "OTHER": "***"},
            "url": None,
            "headers": {},
            "oauth": None,
            "description": "GitHub",
        },
        "weather": {
            "enabled": True,
            "type": "http",
            "command": None,
            "args": [],
            "env": {},
            "url": "https://mcp.example.com/mcp?apiKey=***&units",
            "headers": {"Authorization": "***"},
            "oauth": {
                "enabled": True,
                "token_url": "https://login.example.com/token?key=***",
                "grant_type": "client_credentials",
                "client_id": "us",
                "client_secret": None,
                "refresh_token": None,
                "scope": None,
                "audience": None,
                "token_field": "access_token",
                "token_type_field": "token_type",
                "expires_in_field": "expires_in",
                "default_token_type": "Bearer",
                "refresh_skew_seconds": 60,
                "extra_token_params": {},
            },
            "description": "",
        },
    }
    # WHEN the page sends it back with one switched off, and a script without revisions, THEN all of it is kept (K2)
    before = await kept(api)
    for switched in ({**shown["weather"], "enabled": False}, without_revision(shown)["weather"]):
        await put(alice, {**shown, "weather": switched})
        now = await kept(api)
        assert now["servers"]["weather"] == {**before["servers"]["weather"], "enabled": switched["enabled"]}
        assert now["servers"]["github"] == before["servers"]["github"]
        assert now["servers"]["github"]["env"] == GITHUB["env"]
        assert now["servers"]["github"]["routing"] == GITHUB["routing"]
        assert now["other"] == {"mcpInterceptors": ["mine.interceptors:build"]}
        shown = await got(alice)
    # WHEN there is nothing new but a key that we do not know, THEN it is kept
    oauth = {**shown["weather"]["oauth"], "mine": 1}
    await put(alice, {**shown, "weather": {**shown["weather"], "oauth": oauth}})
    now, shown = await kept(api), await got(alice)
    assert now["servers"]["weather"]["oauth"]["mine"] == 1
    # WHEN a mask stands for nothing that is stored, THEN it is refused, and nothing is changed (K3)
    weather, github = without_revision(shown)["weather"], without_revision(shown)["github"]
    for wrong, says in (
        ({**weather, "headers": {"X-New": "***"}}, "Cannot set header 'X-New' of 'weather' to masked value"),
        ({**weather, "env": {"NEW": "***"}}, "Cannot set env key 'NEW'"),
        ({**weather, "url": "https://mcp.example.com/mcp?other=***"}, "Cannot set the url"),
        # nor for one that would go to somebody else
        ({**weather, "url": "https://elsewhere.example.com/mcp"}, "Cannot set header 'Authorization'"),
        (
            {**weather, "oauth": {**weather["oauth"], "token_url": "https://elsewhere.example.com/"}},
            "token_url",
        ),
        (
            {**weather, "oauth": {**weather["oauth"], "token_url": "https://login.example.com/?a=***"}},
            "token_url",
        ),
        ({**weather, "type": "sse"}, "Cannot set header 'Authorization'"),
        # nor the token that a secret stands for
        (
            {**weather, "url": "https://elsewhere.example.com/mcp", "headers": {}},
            "The oauth of 'weather' is for another server",
        ),
    ):
        assert says in await put(alice, {**shown, "weather": wrong}, 400)
    # nor to what other arguments make of a command
    for args in (["-y", "another"], []):
        assert "Cannot set env key" in await put(alice, {**shown, "github": {**github, "args": args}}, 400)
    assert "Cannot set header" in await put(
        alice, {"new": {"type": "http", "url": "https://x.example", "headers": {"A": "***"}}}, 400
    )
    assert (await kept(api)) == now
    # WHEN an empty text is sent for a secret, THEN it is cleared; null keeps the other one (K4)
    await put(alice, {**shown, "weather": {**weather, "oauth": {**weather["oauth"], "client_secret": ""}}})
    oauth = (await kept(api))["servers"]["weather"]["oauth"]
    assert (oauth["client_secret"], oauth["refresh_token"]) == (None, "s3cret-refresh")
    # WHEN keys beside the servers are null, and a server is left out, THEN they are gone
    await put(alice, {}, mcpInterceptors=None)
    assert await kept(api) == {"servers": {}, "other": {}}
    told = await api.database.fetch(
        "select actor, owner, subject, detail from slackwater.audit where action = 'mcp_server.changed' order by audit_id"
    )
    assert {(row["actor"], row["owner"]) for row in told} == {("alice", None)}
    assert [(row["subject"], row["detail"]) for row in told][:3] == [
        ("github", "added"),
        ("weather", "added"),
        ("weather", "changed"),
    ]
    assert {(row["subject"], row["detail"]) for row in told[-2:]} == {
        ("github", "removed"),
        ("weather", "removed"),
    }


async def key_of(api: Api, owner: str, scope: KeyScope) -> httpx.AsyncClient:
    secret, _ = await create(api.database, owner, (scope,), days=None)
    return api.client(**{"x-api-key": secret})


async def test_who_may_read_and_change_it(api: Api) -> None:
    """40a371b88: any user could configure commands. Others are shown what there is, and not where."""
    await put(api.client("alice"), BOTH)
    runs, administrates = [
        await key_of(api, name, scope) for name, scope in (("bob", KeyScope.RUN), ("carol", KeyScope.ADMIN))
    ]
    shown = await got(runs)
    assert list(shown) == ["github", "weather"]
    assert shown["github"] == {
        "enabled": True,
        "type": "stdio",
        "command": None,
        "args": [],
        "env": {},
        "url": None,
        "headers": {},
        "oauth": None,
        "description": "GitHub",
    }
    await put(runs, {}, 403)
    assert (await api.client().get(URL)).status_code == 401
    # WHEN another administrator sends what has no `revision`, THEN nothing is lost that they do not say they have seen
    alice, ask = api.client("alice"), {"url": "https://mine.example/mcp"}
    mine = without_revision(await got(administrates))
    for lost in ({}, {"github": mine["github"]}, {**mine, "github": {**mine["github"], "enabled": False}}):
        assert "does not say that you have seen it" in await put(administrates, lost, 409)
    assert "masked value" in await put(administrates, {"new": {**ask, "headers": {"A": "***"}}}, 400)
    # but they may add a server, and change and remove that one
    await put(administrates, {**mine, "mine": ask})
    await put(administrates, {**mine, "mine": {**ask, "enabled": False}})
    await put(administrates, mine)
    await put(alice, {**mine, "mine": ask}, 409)
    await put(alice, {**mine, "other": ask})
    # AND they replace all of it by saying so
    answer = await administrates.put(URL, json={"mcp_servers": {}}, headers={"if-match": "*"})
    assert answer.status_code == 200
    assert await got(runs) == {}
    await put(alice, {"other": ask}, 409)


async def test_two_administrators_at_once(
    api: Api, serve: Callable[..., Any], tmp_path: Path, stack: AsyncExitStack
) -> None:
    """Never a lost edit, whichever server they ask: what concerns different ones merges by name, and else the second one is told."""
    more = {"gateway": True, "blobs": f"file:{tmp_path}/blobs", "encryption_key": KEY}
    other = await stack.enter_async_context(serve(names=("bob",), **more))
    alice, bob = api.client("alice"), other.client("bob")
    # Commands are off unless somebody allows them, and nobody is told who calls by a server that signs nothing
    assert "SLACKWATER_MCP_COMMANDS" in await put(bob, {"github": GITHUB}, 400)
    identity = {"url": "https://x.example", "identity": True}
    assert "signs no tokens" in await put(bob, {"x": identity}, 400)
    assert (await bob.put(URL, json={"mcp_servers": {"x": {"type": "ws"}}})).status_code == 422
    servers = {f"s{n}": {"type": "http", "url": f"https://s{n}.example/mcp"} for n in range(6)}
    await put(alice, servers)
    seen = await got(alice)

    # WHEN all of them are switched off by pages that have read the same, THEN all of them are off
    def page(name: str, **change: Any) -> Any:
        return {**seen, name: {**seen[name], **change}}

    await asyncio.gather(
        *(put(client, page(f"s{n}", enabled=False)) for n, client in enumerate([alice, bob] * 3))
    )
    assert [one["enabled"] for one in (await got(alice)).values()] == [False] * 6
    # WHEN one has added a server and another removed one, THEN both is so, also for a page that has seen neither
    now = await got(alice)
    await put(alice, {**now, "new": {"type": "sse", "url": "https://new.example/sse"}})
    await put(bob, {name: one for name, one in now.items() if name != "s5"})
    await put(alice, {**now, "s4": {**now["s4"], "description": "mine"}})
    assert list(await got(bob)) == ["s0", "s1", "s2", "s3", "s4", "new"]
    # WHEN both change the same server, or one what the other has removed, THEN the second one is told, and nothing of it is kept
    for stale in (
        {**now, "s4": {**now["s4"], "description": "yours"}, "s3": {**now["s3"], "enabled": True}},
        {**now, "s5": {**now["s5"], "enabled": True}},
        {name: one for name, one in now.items() if name != "s4"},
        {**now, "new": {"type": "http", "url": "https://another.example/mcp"}},
    ):
        assert "changed meanwhile" in await put(bob, stale, 409)
    # but who does the same once more has lost nothing
    await put(bob, {**now, "s4": {**now["s4"], "description": "mine"}})
    now = await got(bob)
    assert (now["s4"]["description"], now["s3"]["enabled"]) == ("mine", False)
    # WHEN a script says which version it has read
    etag = (await alice.get(URL)).headers["etag"]
    body = {"mcp_servers": {}}
    for expected, status in (('"1"', 409), (etag, 200), (etag, 409), ("nonsense", 409)):
        assert (await alice.put(URL, json=body, headers={"if-match": expected})).status_code == status, (
            expected
        )
    # AND one who replaces whatever there is has what they send, however old it is
    answer = await alice.put(URL, json={"mcp_servers": now}, headers={"if-match": "*"})
    assert list(answer.json()["mcp_servers"]) == list(now)
    wrong = {"mcp_servers": {"s0": {**now["s0"], "revision": "99-0000000000000000"}}}
    assert (await alice.put(URL, json=wrong)).status_code == 409


async def test_it_is_encrypted_and_encrypted_anew(
    api: Api, serve: Callable[..., Any], tmp_path: Path
) -> None:
    """By the key of signing keys, in pieces; whoever lacks it says so, and changes nothing."""
    alice = api.client("alice")
    many = {f"s{n}": {**WEATHER, "description": "d" * 5000} for n in range(10)}
    await put(alice, many)
    stored = await api.database.fetch_one("select * from slackwater.mcp_config")
    assert stored is not None
    assert len(stored["document"]) > 1
    assert "s3cret" not in str(stored)
    assert "example.com" not in str(stored)
    too_large = {f"s{n}": {**WEATHER, "description": "d" * 8000} for n in range(60)}
    await put(alice, too_large, 413)
    more = {"gateway": True, "blobs": f"file:{tmp_path}/blobs", "names": ("alice",), "mcp_commands": "npx"}
    # WHEN another process has another key
    async with serve(encryption_key=NEXT, **more) as other:
        client = other.client("alice")
        for answer in (await client.get(URL), await client.put(URL, json={"mcp_servers": {}})):
            assert answer.status_code == 503
            assert "SLACKWATER_ENCRYPTION_KEY" in answer.json()["detail"]
    # WHEN the key is changed, THEN a process that has both encrypts anew
    before = await kept(api)
    async with serve(encryption_key=f"{NEXT},{KEY}", **more) as other:
        assert len(await got(other.client("alice"))) == 10
        assert await kept(api, NEXT) == before
