"""Keys in the database: whose they are, what they allow, and how soon they are refused once they are revoked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from psycopg_pool import PoolTimeout
from support.api import Api

from slackwater.identity import valid
from slackwater.identity.scopes import KeyScope
from slackwater.identity.stored_keys import queries, service
from slackwater.kit.ids import uuid7

ALL = frozenset(KeyScope)
UNKNOWN = {"detail": "Send a valid key in the x-api-key header."}


@pytest.fixture
async def api(serve: Callable[..., Any]) -> AsyncIterator[Api]:
    async with serve(database_keys=True, names=("root",)) as api:
        yield api


async def key_of(api: Api, owner: str, *scopes: KeyScope, days: float | None = None) -> tuple[Any, str]:
    """The id of a new key, and its secret."""
    secret, row = await service.create(api.database, owner, scopes or (KeyScope.RUN,), days=days)
    return row["key_id"], secret


def with_key(api: Api, secret: str) -> httpx.AsyncClient:
    return api.client(peer="203.0.113.9", **{"x-api-key": secret})


async def test_who_sends_a_stored_key_is_its_owner_whichever_of_their_keys_it_is(api: Api) -> None:
    alice, again = [with_key(api, (await key_of(api, "alice"))[1]) for _ in range(2)]
    bob = with_key(api, (await key_of(api, "bob"))[1])
    thread = (await alice.post("/threads", json={})).json()["thread_id"]
    assert (await again.get(f"/threads/{thread}")).status_code == 200
    assert (await bob.get(f"/threads/{thread}")).status_code == 404
    # Those of the settings are valid as before.
    assert (await api.client("root").post("/threads/search", json={})).json() == []


async def test_a_key_that_is_none_is_refused_and_a_secret_is_not_in_the_database(api: Api) -> None:
    _, secret = await key_of(api, "alice")
    for wrong in (secret[:-1], secret + "x", secret.upper(), "", "sw_", "é"):
        client = api.client(peer="203.0.113.9")
        answer = await client.get("/threads/x", headers={"x-api-key": wrong.encode()})
        assert (answer.status_code, answer.json()) == (401, UNKNOWN), wrong
    (row,) = await api.database.fetch("select k::text as all_of_it from slackwater.api_keys k")
    assert secret not in row["all_of_it"]


async def test_without_the_setting_no_stored_key_is_looked_at(serve: Callable[..., Any]) -> None:
    async with serve(names=("root",)) as api:
        _, secret = await key_of(api, "alice")
        assert (await with_key(api, secret).post("/threads/search", json={})).status_code == 401


async def test_with_the_setting_alone_a_server_is_nobodys_without_a_key(serve: Callable[..., Any]) -> None:
    async with serve(database_keys=True) as api:
        assert (await api.client().post("/threads/search", json={})).status_code == 401
        _, secret = await key_of(api, "alice")
        assert (await with_key(api, secret).post("/threads/search", json={})).status_code == 200


# Scopes


async def test_a_reading_key_cannot_cancel_by_going_away(api: Api) -> None:
    client = with_key(api, (await key_of(api, "alice", KeyScope.READ))[1])
    for what in ("join", "stream"):
        path = f"/threads/{uuid7()}/runs/{uuid7()}/{what}"
        assert (await client.get(path)).status_code != 403
        assert (await client.get(path, params={"cancel_on_disconnect": "true"})).status_code == 403


# Revoked, expired


async def test_an_expired_key_is_refused_also_where_it_is_known(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_id, secret = await key_of(api, "alice", days=1)
    client = with_key(api, secret)
    assert (await client.post("/threads/search", json={})).status_code == 200
    clock = valid.time.time
    with monkeypatch.context() as later:
        later.setattr(valid, "FRESH_SECONDS", 1_000_000.0)
        later.setattr(valid, "STALE_SECONDS", 1_000_000.0)
        later.setattr(valid.time, "time", lambda: clock() + 86_401)
        assert (await client.post("/threads/search", json={})).status_code == 401
    # For who asks, the database's clock counts.
    monkeypatch.setattr(valid, "FRESH_SECONDS", 0.0)
    assert (await client.post("/threads/search", json={})).status_code == 200
    await api.database.execute(
        "update slackwater.api_keys set expires_at = clock_timestamp() where key_id = %s", [key_id]
    )
    assert (await client.post("/threads/search", json={})).status_code == 401


async def test_a_revoked_key_is_refused_as_soon_as_what_is_known_of_it_is_old(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_id, secret = await key_of(api, "alice")
    client = with_key(api, secret)
    monkeypatch.setattr(valid, "FRESH_SECONDS", 1000.0)
    monkeypatch.setattr(valid, "STALE_SECONDS", 2000.0)
    assert (await client.post("/threads/search", json={})).status_code == 200
    revoked = await service.revoke(api.database, key_id)
    assert revoked is not None
    again = await service.revoke(api.database, key_id)
    assert again == revoked
    assert (await client.post("/threads/search", json={})).status_code == 200
    monkeypatch.setattr(valid, "FRESH_SECONDS", 0.0)
    assert (await client.post("/threads/search", json={})).status_code == 401


async def test_a_frozen_environment_asks_again(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    key_id, secret = await key_of(api, "alice")
    client = with_key(api, secret)
    assert (await client.post("/threads/search", json={})).status_code == 200
    await service.revoke(api.database, key_id)
    # WHEN only the wall clock has gone on
    clock = valid.time.time
    monkeypatch.setattr(valid.time, "time", lambda: clock() + valid.STALE_SECONDS)
    assert (await client.post("/threads/search", json={})).status_code == 401


async def test_many_requests_with_a_key_ask_once(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    _, secret = await key_of(api, "alice")
    client = with_key(api, secret)
    monkeypatch.setattr(valid, "FRESH_SECONDS", 1000.0)
    monkeypatch.setattr(valid, "STALE_SECONDS", 2000.0)
    asked: list[bytes] = []
    find = queries.find

    async def counted(database: Any, sha256: bytes) -> Any:
        asked.append(sha256)
        return await find(database, sha256)

    monkeypatch.setattr(queries, "find", counted)
    assert (await client.post("/threads/search", json={})).status_code == 200
    for _ in range(3):
        await asyncio.gather(*(client.post("/threads/search", json={}) for _ in range(8)))
    assert len(asked) == 1
    # WHEN it is due, one asks and the others go on
    monkeypatch.setattr(valid, "FRESH_SECONDS", 0.0)
    release = asyncio.Event()

    async def slow(database: Any, sha256: bytes) -> Any:
        asked.append(sha256)
        await release.wait()
        return await find(database, sha256)

    monkeypatch.setattr(queries, "find", slow)
    first = asyncio.create_task(client.post("/threads/search", json={}))
    while len(asked) < 2:
        await asyncio.sleep(0)
    answers = await asyncio.gather(*(client.post("/threads/search", json={}) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    # AND one that is cancelled leaves the question to the next
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    release.set()
    assert (await client.post("/threads/search", json={})).status_code == 200
    assert len(asked) == 3


async def test_the_last_use_is_noted_once_a_minute(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    _, secret = await key_of(api, "alice")
    client = with_key(api, secret)
    monkeypatch.setattr(valid, "FRESH_SECONDS", 0.0)

    async def use() -> Any:
        assert (await client.post("/threads/search", json={})).status_code == 200
        (row,) = await service.list_(api.database, "alice")
        return row["last_used_at"]

    first = await use()
    assert first is not None
    assert await use() == first
    await api.database.execute("update slackwater.api_keys set last_used_at = last_used_at - interval '61 s'")
    assert await use() > first


# What is open


@dataclass
class Call:
    """A request straight to the application, which is never disconnected."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    inbox: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)

    async def make(self, api: Api, secret: str, kind: str, method: str, path: str) -> None:
        scope = {
            "type": kind,
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http" if kind == "http" else "ws",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(b"x-api-key", secret.encode()), (b"host", b"127.0.0.1")],
            "client": ("203.0.113.9", 50_000),
            "server": ("127.0.0.1", 2024),
            "subprotocols": [],
            "state": dict(api.state),
        }
        if kind == "websocket":
            del scope["method"]

        async def send(message: Any) -> None:
            self.messages.append(message)

        await api.app(scope, self.inbox.get, send)

    async def begun(self) -> None:
        async with asyncio.timeout(15):
            while not self.messages:
                await asyncio.sleep(0.01)


async def refused(api: Api, secret: str) -> None:
    """Wait until the key is refused, which takes no longer than promised."""
    async with asyncio.timeout(15):
        while (await with_key(api, secret).post("/threads/search", json={})).status_code != 401:
            await asyncio.sleep(0.01)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(valid, "FRESH_SECONDS", 0.1)


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("how", ["revoked", "expired"])
async def test_a_stream_ends_with_its_key_by_an_abort_and_others_go_on(api: Api, how: str) -> None:
    key_id, secret = await key_of(api, "alice")
    _, other = await key_of(api, "alice")
    thread = (await with_key(api, other).post("/threads", json={})).json()["thread_id"]
    calls = {each: Call() for each in (secret, other)}
    tasks = {
        each: asyncio.create_task(call.make(api, each, "http", "GET", f"/threads/{thread}/stream"))
        for each, call in calls.items()
    }
    for call in calls.values():
        await call.begun()
    if how == "revoked":
        await service.revoke(api.database, key_id)
    else:
        await api.database.execute(
            "update slackwater.api_keys set expires_at = clock_timestamp() where key_id = %s", [key_id]
        )
    await asyncio.wait_for(tasks[secret], 15)
    # THEN it has no end, from which a client would learn that there is no more
    assert all(message.get("more_body", True) for message in calls[secret].messages)
    assert calls[secret].messages[0]["status"] == 200
    await refused(api, secret)
    assert not tasks[other].done()
    tasks[other].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[other]
    assert api.services.keys is not None
    assert api.services.keys._open == {}


@pytest.mark.usefixtures("soon")
async def test_a_socket_is_closed_with_its_key(api: Api) -> None:
    key_id, secret = await key_of(api, "alice")
    thread = (await with_key(api, secret).post("/threads", json={})).json()["thread_id"]
    call = Call()
    call.inbox.put_nowait({"type": "websocket.connect"})
    task = asyncio.create_task(call.make(api, secret, "websocket", "", f"/threads/{thread}/stream/events"))
    await call.begun()
    await service.revoke(api.database, key_id)
    await asyncio.wait_for(task, 15)
    assert [message["type"] for message in call.messages] == ["websocket.accept", "websocket.close"]
    assert call.messages[-1]["code"] == 4401


@pytest.mark.usefixtures("soon")
async def test_who_waits_for_a_run_is_refused_and_the_run_goes_on(api: Api) -> None:
    key_id, secret = await key_of(api, "alice")
    _, other = await key_of(api, "alice")
    client = with_key(api, other)
    thread = (await client.post("/threads", json={})).json()["thread_id"]
    later = {"assistant_id": "echo", "input": {}, "after_seconds": 3600}
    run = (await client.post(f"/threads/{thread}/runs", json=later)).json()["run_id"]
    call = Call()
    task = asyncio.create_task(call.make(api, secret, "http", "GET", f"/threads/{thread}/runs/{run}/join"))
    async with asyncio.timeout(15):
        while api.services.keys is None or key_id not in api.services.keys._open:
            await asyncio.sleep(0.01)
    await service.revoke(api.database, key_id)
    await asyncio.wait_for(task, 15)
    assert all(message.get("more_body", True) for message in call.messages) or (
        call.messages[0]["status"] == 401
    )
    assert (await client.get(f"/threads/{thread}/runs/{run}")).json()["status"] == "pending"


@pytest.mark.usefixtures("soon")
async def test_who_comes_while_keys_are_checked_stays(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    _, first = await key_of(api, "alice")
    _, second = await key_of(api, "alice")
    thread = (await with_key(api, first).post("/threads", json={})).json()["thread_id"]
    still_valid, checking, release = queries.still_valid, asyncio.Event(), asyncio.Event()
    checks = 0

    async def slow(database: Any, key_ids: Any) -> Any:
        nonlocal checks
        found = await still_valid(database, key_ids)
        checking.set()
        await release.wait()
        checks += 1
        return found

    monkeypatch.setattr(queries, "still_valid", slow)
    calls = {secret: Call() for secret in (first, second)}
    tasks = []
    for secret, call in calls.items():
        # The second comes when the database has answered, and its answer is on its way
        tasks.append(asyncio.create_task(call.make(api, secret, "http", "GET", f"/threads/{thread}/stream")))
        await call.begun()
        await asyncio.wait_for(checking.wait(), 15)
    release.set()
    async with asyncio.timeout(15):
        while checks < 2:
            await asyncio.sleep(0.01)
    assert [task.done() for task in tasks] == [False, False]
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@pytest.mark.usefixtures("soon")
async def test_a_database_that_is_away_for_a_moment_ends_nothing(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    key_id, secret = await key_of(api, "alice")
    thread = (await with_key(api, secret).post("/threads", json={})).json()["thread_id"]
    call = Call()
    task = asyncio.create_task(call.make(api, secret, "http", "GET", f"/threads/{thread}/stream"))
    await call.begun()
    still_valid = queries.still_valid

    async def away(*_: Any) -> Any:
        raise PoolTimeout

    monkeypatch.setattr(queries, "still_valid", away)
    async with asyncio.timeout(15):
        while "keys could not be checked" not in caplog.text:
            await asyncio.sleep(0.01)
    assert not task.done()
    monkeypatch.setattr(queries, "still_valid", still_valid)
    await service.revoke(api.database, key_id)
    await asyncio.wait_for(task, 15)
