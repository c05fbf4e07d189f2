"""Tokens for scripts: each calls as exactly one owner, for minutes, with no more than clients may do."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from support.api import Api, shape_of
from support.command import Answer, run_command

from slackwater.identity import internal
from slackwater.identity.audit import service as audit
from slackwater.identity.audit.actor import AuditAction
from slackwater.identity.scopes import KeyScope
from slackwater.identity.signing import rotation, service, tokens
from slackwater.identity.signing.audience import Audience
from slackwater.identity.signing.encryption import Encryption
from slackwater.identity.signing.service import Signing
from slackwater.identity.stored_keys import service as keys
from slackwater.kit.ids import uuid7

AUTH = """
from langgraph_sdk import Auth

auth = Auth()


@auth.authenticate
async def authenticate(authorization):
    scheme, _, name = (authorization or "").partition(" ")
    if not name.isalpha():
        raise Auth.exceptions.HTTPException(401, "who are you?")
    return name
"""


@pytest.fixture
async def api(serve: Callable[..., Any]) -> AsyncIterator[Api]:
    async with serve(database_keys=True, names=("root",)) as api:
        yield api


def signing_of(api: Api) -> Signing:
    assert api.services.signing is not None
    return api.services.signing


async def token_of(api: Api, owner: str, **options: Any) -> str:
    return (await internal.issue(signing_of(api), owner, **options)).token


def with_token(api: Api, token: str, **headers: str) -> httpx.AsyncClient:
    return api.client(peer="203.0.113.9", authorization=f"Bearer {token}", **headers)


async def status(client: httpx.AsyncClient) -> int:
    return (await client.post("/threads/search", json={})).status_code


async def test_a_token_calls_as_its_owner_and_as_nobody_else(api: Api) -> None:
    secret, _ = await keys.create(api.database, "alice", [KeyScope.RUN])
    by_key = api.client(peer="203.0.113.9", **{"x-api-key": secret})
    alice, bob = [with_token(api, await token_of(api, name)) for name in ("alice", "bob")]
    thread = (await by_key.post("/threads", json={})).json()["thread_id"]
    assert (await alice.get(f"/threads/{thread}")).status_code == 200
    assert (await bob.get(f"/threads/{thread}")).status_code == 404
    # Whatever else the request says: there is no header and no body that names another.
    body = {
        "assistant_id": "steps",
        "input": {"n": 1},
        "config": {"configurable": {"thread_id": thread, "owner": "alice"}},
        "metadata": {"owner": "alice"},
    }
    headers = {"x-owner": "alice", "x-user-id": "alice", "x-forwarded-user": "alice"}
    for path in ("stream", "wait"):
        answer = await bob.post(f"/threads/{thread}/runs/{path}", json=body, headers=headers)
        assert answer.status_code == 404
    assert await status(bob) == 200
    assert (await bob.post("/threads/search", json={}, headers=headers)).json() == []


async def test_a_valid_token_passes_wherever_a_key_is_needed(api: Api, subtests: pytest.Subtests) -> None:
    client, junk = with_token(api, await token_of(api, "alice")), with_token(api, "junk")
    paths = api.app.openapi()["paths"]
    routes = [(method, path) for path, item in paths.items() for method in item]
    routes += [(method, "/nothing/here") for method in ("get", "post", "put", "patch", "delete")]
    assert len(routes) > 50
    for method, path in routes:
        if path in ("/", "/ok", "/ready", "/health", "/info"):
            continue
        with subtests.test(f"{method} {path}"):
            assert (await junk.request(method, shape_of(path), json={})).status_code == 401
            found = (await client.request(method, shape_of(path), json={})).status_code
            # About all owners.
            assert found == 403 if path == "/metrics" else found not in (401, 403)


async def test_a_token_may_only_read(api: Api) -> None:
    client = with_token(api, await token_of(api, "alice", scope=KeyScope.READ))
    assert await status(client) == 200
    answer = await client.post("/threads", json={})
    assert (answer.status_code, answer.json()["detail"]) == (
        403,
        "The token does not allow this request, which needs the scope 'run': use another token.",
    )


async def test_what_is_no_such_token_is_refused(
    api: Api, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    signing = signing_of(api)
    token = await token_of(api, "alice", seconds=60)
    claims = {"sub": "alice", "scope": "run", "jti": str(uuid7())}

    async def signed(audience: Audience = Audience.INTERNAL, **changed: Any) -> str:
        return await signing.sign(audience, {**claims, **changed}, seconds=60)

    assert await status(with_token(api, await signed())) == 200
    wrong = {
        "tampered": token[:-2] + ("AA" if token[-2:] != "AA" else "BB"),
        "cut": token[:-1],
        "for a session": await signed(Audience.SESSION),
        "for a login": await signed(Audience.OIDC_STATE),
        "admin": await signed(scope="admin"),
        "metrics": await signed(scope="metrics"),
        "no scope": await signed(scope=None),
        "nobody": await signed(sub=""),
        "everybody": await signed(sub="system"),
        "a list": await signed(sub=["alice"]),
        "no id": await signed(jti=None),
    }
    for name, each in wrong.items():
        with subtests.test(name):
            answer = await with_token(api, each).post("/threads/search", json={})
            assert answer.status_code == 401
    # Where it is looked for.
    for headers in (
        {"authorization": token},
        {"authorization": f"Basic {token}"},
        {"cookie": f"access_token={token}"},
    ):
        assert await status(api.client(peer="203.0.113.9", **headers)) == 401
    assert await status(api.client(authorization=f"bearer  {token} ")) == 200
    # WHEN it has expired
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + 60 + tokens.LEEWAY_SECONDS)
    answer = await with_token(api, token).post("/threads/search", json={})
    assert (answer.status_code, answer.json()["detail"]["code"]) == (401, "token_expired")


async def test_a_key_beside_a_token_decides(api: Api) -> None:
    token = await token_of(api, "alice")
    thread = (await api.client("root").post("/threads", json={})).json()["thread_id"]
    both = with_token(api, token, **{"x-api-key": api.secrets["root"]})
    assert (await both.get(f"/threads/{thread}")).status_code == 200
    assert await status(with_token(api, token, **{"x-api-key": "wrong"})) == 401


async def test_with_keys_in_the_settings_alone_there_are_no_tokens(serve: Callable[..., Any]) -> None:
    async with serve(names=("root",)) as api:
        assert api.services.signing is None
        token = await internal.issue(Signing(api.database, Encryption()), "root")
        assert await status(with_token(api, token.token)) == 401


async def test_where_people_log_in_a_token_is_none_of_a_session(serve: Callable[..., Any]) -> None:
    async with serve(accounts=True) as api:
        token = await token_of(api, "alice")
        client = with_token(api, token)
        # A page of another site cannot send it: no token against that is asked for.
        assert (await client.post("/threads", json={})).status_code == 200
        assert (await client.get("/api/v1/auth/me")).status_code == 403
        # Nor does a browser send one by itself.
        assert await status(api.client(peer="203.0.113.9", cookie=f"access_token={token}")) == 401


async def test_a_project_with_an_auth_of_its_own_never_sees_a_token_of_ours(
    serve: Callable[..., Any], project: Callable[..., Path]
) -> None:
    async with serve(project=project(source=AUTH), database_keys=True) as api:
        assert await status(with_token(api, "alice")) == 200  # theirs
        token = await token_of(api, "alice")
        thread = (await with_token(api, token).post("/threads", json={})).json()["thread_id"]
        assert (await with_token(api, "alice").get(f"/threads/{thread}")).status_code == 404
        assert await status(with_token(api, token[:-2])) == 401


@pytest.mark.parametrize(
    ("owner", "options"),
    [
        ("", {}),
        ("system", {}),
        ("a\0b", {}),
        ("x" * 501, {}),
        ("alice", {"seconds": 0}),
        ("alice", {"seconds": -1}),
        ("alice", {"seconds": 301}),
        ("alice", {"seconds": float("nan")}),
        ("alice", {"scope": KeyScope.ADMIN}),
        ("alice", {"scope": KeyScope.METRICS}),
    ],
)
async def test_what_a_token_cannot_be(api: Api, owner: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        await internal.issue(signing_of(api), owner, **options)


async def test_in_an_emergency_tokens_end(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    client = with_token(api, await token_of(api, "alice", seconds=300))
    assert await status(client) == 200
    await rotation.rotate(api.database, Encryption(), now=True)
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + service.STALE_SECONDS)
    assert await status(client) == 401


async def test_what_is_done_with_a_token_is_audited_as_that(api: Api) -> None:
    issued = await internal.issue(signing_of(api), "alice")
    client = with_token(api, issued.token)
    thread = (await client.post("/threads", json={})).json()["thread_id"]
    assert (await client.delete(f"/threads/{thread}")).status_code == 204
    (row,) = await audit.list_(api.database, actions=[AuditAction.THREAD_DELETED])
    assert (row["actor"], row["via"], row["key_id"], row["owner"]) == (
        "alice",
        "token",
        issued.token_id,
        "alice",
    )


# The command


@pytest.fixture
def slackwater(tmp_path: Path, database_uri: str) -> Callable[..., Answer]:
    def run(*arguments: str, **settings: str) -> Answer:
        return run_command(tmp_path, *arguments, SLACKWATER_DATABASE_URI=database_uri, **settings)

    return run


async def test_the_command_gives_out_tokens_that_servers_accept(
    api: Api, slackwater: Callable[..., Answer]
) -> None:
    printed = await asyncio.to_thread(slackwater, "token", "alice")
    assert printed.code == 0, printed
    assert await status(with_token(api, printed.out.strip())) == 200
    told = (await asyncio.to_thread(slackwater, "token", "bob", "--scope=read", "--seconds=5", "--json")).json
    assert told.keys() == {"token", "token_id", "owner", "scope"}
    client = with_token(api, told["token"])
    assert [await status(client), (await client.post("/threads", json={})).status_code] == [200, 403]
    found = await audit.list_(api.database, actions=[AuditAction.TOKEN_ISSUED])
    assert [(row["via"], row["owner"], row["detail"]) for row in found] == [
        ("command", "bob", "read, 5 s"),
        ("command", "alice", "run, 60 s"),
    ]
    assert found[0]["subject"] == told["token_id"]
    shown = await asyncio.to_thread(slackwater, "audit", "--action", "token.issued")
    assert "run, 60 s" in shown.out


async def test_however_many_commands_are_the_first_there_is_one_key(
    database: Any, slackwater: Callable[..., Answer]
) -> None:
    answers = await asyncio.gather(*(asyncio.to_thread(slackwater, "token", "alice") for _ in range(4)))
    assert [answer.code for answer in answers] == [0] * 4, answers
    (key,) = await rotation.list_(database)
    kids = {tokens.kid_of(Audience.INTERNAL, answer.out.strip()) for answer in answers}
    assert kids == {key["kid"]}


def test_the_command_refuses_what_no_token_can_be(slackwater: Callable[..., Answer]) -> None:
    assert slackwater("token", "alice", "--seconds", "301").sentence == (
        "a token is valid for more than 0 and at most 300 seconds."
    )
    assert slackwater("token", "system").sentence == "'system' is nobody who could call."
    assert slackwater("token", "alice", "--scope", "admin").code == 2


def test_the_commands_for_signing_keys(slackwater: Callable[..., Answer], database_uri: str) -> None:
    assert slackwater("signing", "list").out == "No keys: the first token that is signed makes one.\n"
    slackwater("token", "alice")
    rotated = slackwater("signing", "rotate", "--json").json
    with psycopg.connect(database_uri, autocommit=True) as connection:  # however long the next commands take
        connection.execute(
            "update slackwater.signing_keys set signs_from = signs_from + interval '1 hour' where valid_until is null"
        )
    newest, first = slackwater("signing", "list", "--json").json
    assert (newest["kid"], newest["signs"], newest["valid_until"]) == (rotated["kid"], False, None)
    assert first["signs"] is True
    assert "secret" not in json.dumps([newest, first, rotated])
    listed = [line.split() for line in slackwater("signing", "list").out.splitlines()[1:]]
    assert [(line[0], line[3]) for line in listed] == [(newest["kid"], "signs"), (first["kid"], "signs")]
    assert [line[4] for line in listed] == ["from", "nothing"]
    said = slackwater("signing", "rotate", "--now").out
    (only,) = slackwater("signing", "list", "--json").json
    assert said == f"{only['kid']} signs. Tokens that were signed before are refused within 10 seconds.\n"


def test_a_command_needs_the_encryption_key_of_the_servers(slackwater: Callable[..., Answer]) -> None:
    right = {"SLACKWATER_ENCRYPTION_KEY": "A" * 43 + "="}
    assert slackwater("token", "alice", **right).code == 0
    for arguments in (["token", "alice"], ["signing", "rotate"]):
        answer = slackwater(*arguments)
        assert answer.code == 2
        assert answer.sentence.startswith(
            "The signing keys in the database are encrypted: set SLACKWATER_ENCRYPTION_KEY"
        )
    assert slackwater("signing", "list").code == 0
    assert slackwater("signing", "rotate", "--now").code == 0
    assert slackwater("token", "alice").code == 0
