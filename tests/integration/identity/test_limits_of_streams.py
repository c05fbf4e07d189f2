"""How many streams each owner may have open, in all processes together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from support.api import Api
from support.sessions import until_waiting

from slackwater.identity.limits import queries, requests, service, streams
from slackwater.identity.limits.streams import stays_open
from slackwater.kit.ids import uuid7
from slackwater.postgres.pool import Database

MOST = 2
SETTING: dict[str, Any] = {"names": ("alice", "bob"), "max_streams_per_owner": MOST}
REFUSED = (
    "You have as many streams open as you may (SLACKWATER_MAX_STREAMS_PER_OWNER, or a limit of your own): "
    "close one first."
)
RUN = {"assistant_id": "echo", "input": {"text": "a"}}


@pytest.fixture
async def api(serve: Callable[..., Any]) -> AsyncIterator[Api]:
    async with serve(**SETTING) as api:
        yield api


async def counted(api: Api) -> dict[str, int]:
    """How many streams count, by owner."""
    rows = await api.database.fetch(
        "select owner, (select count(*) from jsonb_each(streams) where value::float > extract(epoch from clock_timestamp()))"
        " as live from slackwater.open_streams"
    )
    return {row["owner"]: row["live"] for row in rows if row["live"]}


async def until_counted(api: Api, wanted: dict[str, int]) -> None:
    async with asyncio.timeout(15):
        while await counted(api) != wanted:
            await asyncio.sleep(0.01)


async def lapse(api: Api) -> None:
    """As if the processes that hold streams had been silent for long enough."""
    await api.database.execute(
        "update slackwater.open_streams set streams = (select coalesce(jsonb_object_agg(key, value::float - %s), '{}') "
        "from jsonb_each(streams))",
        [streams.LAPSE_SECONDS],
    )


@asynccontextmanager
async def reading(api: Api, name: str = "alice", count: int = 1) -> AsyncIterator[None]:
    """So many streams of a thread, which stay open."""
    client = api.client(name)
    thread = (await client.post("/threads", json={})).json()["thread_id"]
    before = (await counted(api)).get(name, 0)
    readers = [asyncio.create_task(client.get(f"/threads/{thread}/stream")) for _ in range(count)]
    try:
        async with asyncio.timeout(15):
            while (await counted(api)).get(name, 0) < before + count:
                assert not any(reader.done() for reader in readers), [r.result() for r in readers if r.done()]
                await asyncio.sleep(0.01)
        yield
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


async def stream(client: httpx.AsyncClient) -> httpx.Response:
    return await client.post("/runs/stream", json=RUN)


async def test_one_more_is_refused_and_leaves_nothing_behind(api: Api) -> None:
    async with reading(api, count=MOST):
        refused = await stream(api.client("alice"))
        assert (refused.status_code, refused.json()) == (429, {"detail": REFUSED})
        assert int(refused.headers["retry-after"]) > 0
        assert await api.database.fetch("select from slackwater.runs") == []
        # What is no stream is answered, and other owners are.
        assert (await api.client("alice").post("/threads/count", json={})).status_code == 200
        assert (await stream(api.client("bob"))).status_code == 200
    # WHEN they are closed there is room, at once in their own process
    assert (await stream(api.client("alice"))).status_code == 200
    await until_counted(api, {})


async def test_all_processes_give_one_answer(serve: Callable[..., Any]) -> None:
    """Each with a pool of its own, all at once."""
    async with AsyncExitStack() as stack:
        apis = [await stack.enter_async_context(serve(**SETTING)) for _ in range(2)]
        clients = [api.client("alice") for api in apis]
        thread = (await clients[0].post("/threads", json={})).json()["thread_id"]
        asked = [asyncio.create_task(c.get(f"/threads/{thread}/stream")) for c in clients for _ in range(6)]
        async with asyncio.timeout(15):
            while sum(task.done() for task in asked) < 12 - MOST:
                await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED, timeout=0.05)
        assert [task.result().status_code for task in asked if task.done()] == [429] * (12 - MOST)
        assert await counted(apis[0]) == {"alice": MOST}
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        # WHEN one process has closed its streams, there is room at the other
        await until_counted(apis[0], {})
        assert [(await stream(client)).status_code for client in clients] == [200, 200]


async def test_what_a_killed_process_held_lapses(api: Api) -> None:
    # GIVEN the rows that a SIGKILL leaves
    for _ in range(MOST):
        row = await queries.take_and_open(
            api.database, "alice", 0, MOST, stream=uuid7(), ended=[], seconds=streams.LAPSE_SECONDS
        )
        assert row["opened"]
    assert (await stream(api.client("alice"))).status_code == 429
    # WHEN nobody says that they are open
    await lapse(api)
    assert (await stream(api.client("alice"))).status_code == 200


async def test_a_stream_counts_for_as_long_as_it_is_open(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "RENEW_SECONDS", 0.05)
    async with reading(api, count=MOST):
        await lapse(api)
        await until_counted(api, {"alice": MOST})
        assert (await stream(api.client("alice"))).status_code == 429


async def test_who_closes_one_may_open_another_before_the_database_knows(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = asyncio.Event()

    async def slow(*_: Any) -> None:
        await held.wait()

    monkeypatch.setattr(queries, "hold", slow)
    async with reading(api, count=MOST):
        pass
    assert await counted(api) == {"alice": MOST}
    assert (await stream(api.client("alice"))).status_code == 200
    held.set()


async def test_a_request_that_is_cancelled_while_it_waits_takes_no_place(api: Api) -> None:
    async with reading(api):
        alice = api.client("alice")
        async with api.database.connection() as other, other.transaction():
            await other.execute("select from slackwater.open_streams for update")
            waiting = asyncio.create_task(stream(alice))
            await until_waiting(api.database.conninfo)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        await until_counted(api, {"alice": 1})


async def test_a_refused_request_opens_no_stream(serve: Callable[..., Any]) -> None:
    async with serve(**SETTING, max_requests_per_minute_per_owner=1) as api:
        alice = api.client("alice")
        assert (await stream(alice)).status_code == 200
        await until_counted(api, {})
        refused = await stream(alice)
        assert (refused.status_code, refused.headers["ratelimit-policy"]) == (429, '"requests";q=1;w=60')
        assert await counted(api) == {}


async def test_every_kind_of_stream_counts(api: Api) -> None:
    thread = (await api.client("alice").post("/threads", json={})).json()["thread_id"]
    run = uuid7()
    asked = [
        ("POST", "/runs/stream", RUN),
        ("POST", "/runs/wait", RUN),
        ("POST", f"/threads/{thread}/runs/stream", RUN),
        ("POST", f"/threads/{thread}/runs/wait", RUN),
        ("GET", f"/threads/{thread}/runs/{run}/join", None),
        ("GET", f"/threads/{thread}/runs/{run}/stream", None),
        ("GET", f"/threads/{thread}/stream", None),
        ("POST", f"/threads/{thread}/stream/events", {}),
        ("POST", "/mcp", {}),
        ("POST", f"/a2a/{run}", {}),
    ]
    async with reading(api, count=MOST):
        for method, path, body in asked:
            answer = await api.client("alice").request(method, path, json=body)
            assert (answer.status_code, answer.json()["detail"]) == (429, REFUSED), path
        for method, path in (("GET", f"/threads/{thread}"), ("POST", "/threads/search")):
            assert (await api.client("alice").request(method, path, json={})).status_code == 200


@pytest.mark.parametrize(
    ("kind", "method", "path", "stays"),
    [
        ("websocket", "", "/threads/x/stream/events", True),
        ("http", "GET", "/threads/x/runs/y/join", True),
        ("http", "GET", "/threads/x/stream/", True),
        ("http", "GET", "/mcp", False),
        ("http", "GET", "/a2a/x", False),
        ("http", "POST", "/threads/x/runs", False),
        ("http", "GET", "/threads/stream/state", False),
    ],
)
def test_streams_are_known_by_their_paths(kind: str, method: str, path: str, stays: bool) -> None:
    assert stays_open(kind, method, path) is stays


async def test_without_a_limit_there_is_no_statement(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "FRESH_SECONDS", 1000.0)
    monkeypatch.setattr(requests, "STALE_SECONDS", 2000.0)
    sent: list[str] = []

    def noted(name: str) -> None:
        function = getattr(queries, name)

        async def noting(database: Database, *arguments: Any, **options: Any) -> Any:
            sent.append(name)
            return await function(database, *arguments, **options)

        monkeypatch.setattr(queries, name, noting)

    for name in ("take", "take_and_open", "hold"):
        noted(name)
    async with serve(names=("alice",)) as api:
        alice = api.client("alice")
        for _ in range(3):
            assert (await stream(alice)).status_code == 200
        assert sent == ["take_and_open"]
        assert await api.database.fetch("select from slackwater.open_streams") == []
        # AND what it has told of requests holds for the others
        assert (await alice.post("/threads/count", json={})).status_code == 200
        assert sent == ["take_and_open"]


async def test_a_limited_stream_is_one_statement_with_its_request(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any) -> Any:
        raise AssertionError

    async with serve(**SETTING, max_requests_per_minute_per_owner=10) as api:
        monkeypatch.setattr(queries, "take", never)
        answer = await stream(api.client("alice"))
        assert (answer.status_code, answer.headers["ratelimit-policy"]) == (200, '"requests";q=10;w=60')


async def test_an_owners_limit_takes_precedence_and_holds_at_once(api: Api) -> None:
    async with reading(api, count=MOST):
        await service.set_(api.database, "alice", {"streams": MOST + 1})
        async with reading(api):
            assert (await stream(api.client("alice"))).status_code == 429
        await service.set_(api.database, "alice", {"streams": 0})
        assert (await stream(api.client("alice"))).status_code == 200


async def test_a_process_that_stops_leaves_none_behind(serve: Callable[..., Any]) -> None:
    async with serve(**SETTING) as watching:
        async with serve(**SETTING) as api:
            reader = reading(api, count=MOST)
            await reader.__aenter__()
            assert await counted(watching) == {"alice": MOST}
        assert await counted(watching) == {}
        await reader.__aexit__(None, None, None)


async def test_old_rows_are_swept(api: Api) -> None:
    assert (await stream(api.client("alice"))).status_code == 200
    await until_counted(api, {})
    await api.database.execute(
        "update slackwater.open_streams set changed_at = changed_at - interval '2 hours'"
    )
    await api.services.runtime.sweep()
    assert await api.database.fetch("select from slackwater.open_streams") == []
