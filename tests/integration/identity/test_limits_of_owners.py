"""What each owner may have and do, in all processes together."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from psycopg_pool import PoolTimeout
from support.api import Api
from support.sessions import until_waiting

from slackwater.identity.limits import queries, requests, service
from slackwater.identity.limits.quota import Quota, headers_of
from slackwater.kit import answers
from slackwater.kit.ids import uuid7
from slackwater.kit.moment import Moment
from slackwater.postgres.pool import Database

PER_MINUTE = 5
SETTING: dict[str, Any] = {"max_requests_per_minute_per_owner": PER_MINUTE, "names": ("alice", "bob")}
REFUSED = "You have sent more requests than you may in a minute: send the next one after the seconds in Retry-After."


@pytest.fixture
async def api(serve: Callable[..., Any]) -> AsyncIterator[Api]:
    async with serve(**SETTING) as api:
        yield api


@pytest.fixture
async def unlimited(serve: Callable[..., Any]) -> AsyncIterator[Api]:
    async with serve(names=("alice", "bob")) as api:
        yield api


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whose requests were taken from the database."""
    owners: list[str] = []
    take = queries.take

    async def noted(database: Database, owner: str, default: int) -> Any:
        owners.append(owner)
        return await take(database, owner, default)

    monkeypatch.setattr(queries, "take", noted)
    return owners


async def ask(client: httpx.AsyncClient) -> httpx.Response:
    """A request that reads nothing of others'."""
    return await client.post("/threads/count", json={})


async def statuses(client: httpx.AsyncClient, count: int) -> list[int]:
    return [(await ask(client)).status_code for _ in range(count)]


async def wait(api: Api, seconds: float, owner: str = "alice") -> None:
    """As if time had passed for the owner's bucket."""
    await api.database.execute(
        "update slackwater.request_buckets set full_at = full_at - make_interval(secs => %s) where owner = %s",
        [seconds, owner],
    )


def full_in(answer: httpx.Response, left: int) -> int:
    """What `RateLimit` says, where so many are left."""
    found = re.fullmatch(rf'"requests";r={left};t=(\d+)', answer.headers["ratelimit"])
    assert found is not None, answer.headers["ratelimit"]
    return int(found[1])


# Requests per minute


async def test_one_more_is_refused_and_other_owners_are_not(api: Api) -> None:
    alice = api.client("alice")
    assert await statuses(alice, PER_MINUTE) == [200] * PER_MINUTE
    refused = await ask(alice)
    assert (refused.status_code, refused.json()) == (429, {"detail": REFUSED})
    assert 0 < int(refused.headers["retry-after"]) <= 60 / PER_MINUTE
    assert (await ask(api.client("bob"))).status_code == 200


async def test_all_processes_give_one_answer(serve: Callable[..., Any]) -> None:
    """Each with a pool of its own, all at once."""
    async with AsyncExitStack() as stack:
        apis = [await stack.enter_async_context(serve(**SETTING)) for _ in range(2)]
        clients = [api.client("alice") for api in apis]
        answers = await asyncio.gather(*(ask(client) for client in clients for _ in range(10)))
        assert [answer.status_code for answer in answers].count(200) == PER_MINUTE
        assert {(await ask(client)).status_code for client in clients} == {429}
        left = sorted(
            int(found[1]) for a in answers if (found := re.search(r"r=(\d+)", a.headers["ratelimit"]))
        )
        assert left == sorted([*range(PER_MINUTE), *[0] * (20 - PER_MINUTE)])


async def test_a_bucket_fills_steadily_and_never_holds_more_than_a_minute(api: Api) -> None:
    alice = api.client("alice")
    await statuses(alice, PER_MINUTE)
    await wait(api, 2 * 60 / PER_MINUTE)
    assert await statuses(alice, 3) == [200, 200, 429]
    await wait(api, 3600)
    assert await statuses(alice, PER_MINUTE + 1) == [200] * PER_MINUTE + [429]


async def test_who_is_refused_does_not_wait_longer_for_having_asked(api: Api) -> None:
    alice = api.client("alice")
    await statuses(alice, PER_MINUTE + 20)
    await wait(api, 60 / PER_MINUTE)
    assert await statuses(alice, 2) == [200, 429]


async def test_every_response_says_what_is_left(api: Api) -> None:
    alice = api.client("alice")
    for left in (4, 3, 2):
        answer = await alice.get(f"/threads/{uuid7()}")  # a 404 counts, too
        assert answer.status_code == 404
        assert answer.headers["ratelimit-policy"] == '"requests";q=5;w=60'
        seconds = full_in(answer, left)
        assert 12 * (4 - left) < seconds <= 12 * (5 - left)
        assert "retry-after" not in answer.headers
    assert (await alice.get("/ok")).headers.get("ratelimit") is None
    await statuses(alice, 2)
    refused = await ask(alice)
    assert 0 < full_in(refused, 0) == int(refused.headers["retry-after"]) <= 12


async def test_a_page_of_another_origin_can_read_them(api: Api) -> None:
    answer = await api.client("alice", origin="https://chat.example").post("/threads/count", json={})
    exposed = {name.strip() for name in answer.headers["access-control-expose-headers"].split(",")}
    assert {"RateLimit", "RateLimit-Policy", "Retry-After"} <= exposed


async def test_public_routes_and_metrics_are_not_counted(api: Api) -> None:
    alice = api.client("alice")
    await statuses(alice, PER_MINUTE + 1)
    for path in ("/ok", "/ready", "/info", "/metrics"):
        assert (await alice.get(path)).status_code == 200, path
    # Nor who is nobody.
    await api.client(peer="203.0.113.9").post("/threads/count", json={})
    assert [
        row["owner"] for row in await api.database.fetch("select owner from slackwater.request_buckets")
    ] == ["alice"]


async def test_commands_by_websocket_count_as_requests(api: Api) -> None:
    inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    outbox: asyncio.Queue[Any] = asyncio.Queue()
    thread = (await api.client("alice").post("/threads", json={})).json()["thread_id"]
    scope = {
        "type": "websocket",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": f"/threads/{thread}/stream/events",
        "raw_path": f"/threads/{thread}/stream/events".encode(),
        "query_string": b"",
        "headers": [(b"x-api-key", api.secrets["alice"].encode()), (b"host", b"127.0.0.1")],
        "client": ("203.0.113.9", 50_000),
        "server": ("127.0.0.1", 2024),
        "subprotocols": [],
        "state": dict(api.state),
    }
    inbox.put_nowait({"type": "websocket.connect"})
    serving = asyncio.create_task(api.app(scope, inbox.get, outbox.put))
    answers = []
    async with asyncio.timeout(15):
        assert (await outbox.get())["type"] == "websocket.accept"
        for n in range(PER_MINUTE - 1):
            inbox.put_nowait(
                {"type": "websocket.receive", "text": f'{{"id": {n}, "method": "agent.getTree"}}'}
            )
            answers.append((await outbox.get())["text"])
    assert ["429: You have sent" in answer for answer in answers] == [False, False, False, True]
    inbox.put_nowait({"type": "websocket.disconnect", "code": 1000})
    await asyncio.wait_for(serving, 15)
    # AND one more connection is closed with the same words
    inbox.put_nowait({"type": "websocket.connect"})
    await asyncio.wait_for(api.app(scope, inbox.get, outbox.put), 15)
    assert (await outbox.get())["type"] == "websocket.accept"
    assert (await outbox.get())["code"] == 4429


async def test_the_databases_clock_may_be_set_back(api: Api) -> None:
    alice = api.client("alice")
    await statuses(alice, PER_MINUTE)
    await wait(api, -86_400)
    assert await statuses(alice, PER_MINUTE + 1) == [200] * PER_MINUTE + [429]


@pytest.mark.parametrize("per_minute", [1, 7, 60, 977, 1_000_000])
async def test_a_full_bucket_has_exactly_its_requests(api: Api, per_minute: int) -> None:
    await service.set_(api.database, "alice", {"requests_per_minute": per_minute})
    length = 60_000_000 // per_minute
    row = await queries.take(api.database, "alice", 0)
    assert (row["taken"], row["full_in"]) == (True, length)
    assert Quota(per_minute, row["full_in"]).left == per_minute - 1
    # The last one, however much of a microsecond the others have taken.
    full = "update slackwater.request_buckets set full_at = clock_timestamp() + %s * interval '1 microsecond'"
    await api.database.execute(full, [length * (per_minute - 1)])
    assert (await queries.take(api.database, "alice", 0))["taken"]
    await api.database.execute(full, [60_000_000 + 25_000_000])  # not longer than it can be
    assert not (await queries.take(api.database, "alice", 0))["taken"]


def test_headers_are_those_of_the_draft() -> None:
    assert headers_of(Quota(100, 600_000)) == {
        "RateLimit-Policy": '"requests";q=100;w=60',
        "RateLimit": '"requests";r=99;t=1',
    }
    assert headers_of(Quota(100, 59_900_000, taken=False)) == {
        "RateLimit-Policy": '"requests";q=100;w=60',
        "RateLimit": '"requests";r=0;t=1',
        "Retry-After": "1",
    }
    assert headers_of(Quota(1, 59_000_000, taken=False))["Retry-After"] == "59"


async def test_a_request_that_is_cancelled_while_it_waits_costs_nothing(api: Api) -> None:
    alice = api.client("alice")
    assert (await ask(alice)).status_code == 200
    async with api.database.connection() as other, other.transaction():
        await other.execute("select from slackwater.request_buckets for update")
        waiting = asyncio.create_task(ask(alice))
        await until_waiting(api.database.conninfo)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert await statuses(alice, PER_MINUTE) == [200] * (PER_MINUTE - 1) + [429]


async def test_while_the_database_is_away_callers_are_told_to_try_again(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> Any:
        raise PoolTimeout

    monkeypatch.setattr(queries, "take", away)
    answer = await ask(api.client("alice"))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert (await api.client("alice").get("/metrics")).status_code == 200


async def test_full_buckets_are_swept(api: Api) -> None:
    await ask(api.client("alice"))
    await ask(api.client("bob"))
    await wait(api, 7200)
    await api.services.runtime.sweep()
    left = await api.database.fetch("select owner from slackwater.request_buckets")
    assert [row["owner"] for row in left] == ["bob"]


# No limit


async def test_without_a_limit_there_is_no_statement(
    unlimited: Api, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "FRESH_SECONDS", 1000.0)
    monkeypatch.setattr(requests, "STALE_SECONDS", 2000.0)
    alice = unlimited.client("alice")
    assert "ratelimit" not in (await ask(alice)).headers
    for _ in range(3):
        await asyncio.gather(*(ask(alice) for _ in range(8)))
    assert sent == ["alice"]
    assert await unlimited.database.fetch("select from slackwater.request_buckets") == []
    # WHEN it is due, one asks
    monkeypatch.setattr(requests, "FRESH_SECONDS", 0.0)
    release = asyncio.Event()
    take = queries.take

    async def slow(database: Database, owner: str, default: int) -> Any:
        row = await take(database, owner, default)
        await release.wait()
        return row

    monkeypatch.setattr(queries, "take", slow)
    first = asyncio.create_task(ask(alice))
    while len(sent) < 2:
        await asyncio.sleep(0)
    assert {answer.status_code for answer in await asyncio.gather(*(ask(alice) for _ in range(8)))} == {200}
    assert len(sent) == 2
    # AND one that is cancelled leaves the question to the next
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    release.set()
    assert (await ask(alice)).status_code == 200
    assert len(sent) == 3


async def test_a_limited_request_is_one_statement(api: Api, sent: list[str]) -> None:
    await statuses(api.client("alice"), PER_MINUTE + 3)
    assert sent == ["alice"] * (PER_MINUTE + 3)


async def test_a_frozen_environment_asks_again(
    unlimited: Api, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = unlimited.client("alice")
    await ask(alice)
    clock = Moment.now().epoch + requests.STALE_SECONDS
    monkeypatch.setattr("slackwater.kit.moment.time.time", lambda: clock)
    await ask(alice)
    assert len(sent) == 2


async def test_only_so_many_owners_are_remembered(
    unlimited: Api, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "MOST", 1)
    for name in ("alice", "bob", "bob", "alice"):
        await ask(unlimited.client(name))
    assert sent == ["alice", "bob", "alice"]


# Of one owner


async def test_an_owners_limit_takes_precedence_and_holds_at_once(api: Api) -> None:
    alice = api.client("alice")
    await service.set_(api.database, "alice", {"requests_per_minute": 2})
    assert await statuses(alice, 3) == [200, 200, 429]
    # WHEN it is raised, what was used stays used
    await service.set_(api.database, "alice", {"requests_per_minute": 60})
    refused = await ask(alice)
    assert (refused.status_code, refused.headers["ratelimit-policy"]) == (429, '"requests";q=60;w=60')
    await wait(api, 60)
    assert await statuses(alice, 10) == [200] * 10
    # WHEN there is none
    await service.set_(api.database, "alice", {"requests_per_minute": 0})
    assert "ratelimit" not in (await ask(alice)).headers
    assert (await statuses(api.client("bob"), PER_MINUTE + 1))[-1] == 429


async def test_a_first_limit_holds_as_soon_as_what_is_known_is_old(
    unlimited: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = unlimited.client("alice")
    monkeypatch.setattr(requests, "FRESH_SECONDS", 1000.0)
    monkeypatch.setattr(requests, "STALE_SECONDS", 2000.0)
    assert await statuses(alice, 2) == [200, 200]
    await service.set_(unlimited.database, "alice", {"requests_per_minute": 1})
    assert await statuses(alice, 2) == [200, 200]
    monkeypatch.setattr(requests, "FRESH_SECONDS", 0.0)
    assert await statuses(alice, 2) == [200, 429]
    await service.unset(unlimited.database, "alice")
    assert await statuses(alice, 2) == [200, 200]


async def test_what_cannot_be_a_limit_is_refused(api: Api) -> None:
    for owner, values in (
        ("", {"requests_per_minute": 1}),
        ("alice", {}),
        ("alice", {"requests_per_minute": -1}),
        ("alice", {"requests_per_minute": 1_000_001}),
        ("alice", {"apples": 1}),
    ):
        with pytest.raises(ValueError, match=r"."):
            await service.set_(api.database, owner, values)
    assert await service.list_(api.database) == []


# Runs

RUN = {"assistant_id": "echo", "input": {"text": "a"}}


@pytest.mark.parametrize("headers", [{}, {"idempotency-key": "k"}], ids=["with others", "alone"])
async def test_an_owners_own_limit_of_waiting_runs_takes_precedence(
    serve: Callable[..., Any], headers: dict[str, str]
) -> None:
    async def start(name: str, count: int) -> list[int]:
        client = api.client(name)
        keys = [{key: f"{name} {n} {uuid7()}" for key in headers} for n in range(count)]
        return [(await client.post("/runs", json=RUN, headers=key)).status_code for key in keys]

    async with serve(names=("alice", "bob", "carol"), max_pending_per_owner=2, max_concurrent_runs=0) as api:
        await service.set_(api.database, "alice", {"pending": 3})
        await service.set_(api.database, "bob", {"pending": 0})
        assert await start("alice", 4) == [200, 200, 200, 429]
        assert await start("bob", 4) == [200] * 4
        assert await start("carol", 3) == [200, 200, 429]
    async with serve(names=("alice", "carol"), max_concurrent_runs=0) as api:
        assert await start("alice", 1) == [429]
        assert await start("carol", 3) == [200] * 3
        # WHEN it is set, it holds at once
        await service.set_(api.database, "carol", {"pending": 6})
        assert await start("carol", 2) == [200, 429]


# Crons


async def test_crons_are_limited_in_all_processes_together(serve: Callable[..., Any]) -> None:
    cron = {"assistant_id": "echo", "input": {}, "schedule": "0 5 1 1 *"}
    setting = {"names": ("alice", "bob"), "max_crons_per_owner": 3, "max_concurrent_runs": 0}
    async with AsyncExitStack() as stack:
        apis = [await stack.enter_async_context(serve(**setting)) for _ in range(2)]
        clients = [api.client("alice") for api in apis]
        made = await asyncio.gather(*(c.post("/runs/crons", json=cron) for c in clients for _ in range(4)))
        assert sorted(answer.status_code for answer in made) == [200] * 3 + [429] * 5
        refused = next(answer for answer in made if answer.status_code == 429)
        assert int(refused.headers["retry-after"]) > 0
        assert "SLACKWATER_MAX_CRONS_PER_OWNER" in refused.json()["detail"]
        assert (await clients[0].post("/runs/crons/count", json={})).json() == 3
        assert (await apis[0].client("bob").post("/runs/crons", json=cron)).status_code == 200
        # WHEN one is deleted, another has its place
        gone = next(answer.json()["cron_id"] for answer in made if answer.status_code == 200)
        assert (await clients[1].delete(f"/runs/crons/{gone}")).is_success
        assert [(await clients[0].post("/runs/crons", json=cron)).status_code for _ in range(2)] == [200, 429]
        # AND an owner's own limit takes precedence
        await service.set_(apis[0].database, "alice", {"crons": 4})
        assert [(await clients[1].post("/runs/crons", json=cron)).status_code for _ in range(2)] == [200, 429]
        await service.set_(apis[0].database, "alice", {"crons": 0})
        assert (await clients[1].post("/runs/crons", json=cron)).status_code == 200
