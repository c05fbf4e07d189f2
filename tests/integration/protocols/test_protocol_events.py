"""The events of protocol v2: the same from every connection, exact for whoever comes back, closed to others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any
from uuid import UUID, uuid4

import httpx
import orjson
import pytest
from support.api import Api

from slackwater.kit import json_format
from slackwater.kit.ids import uuid7
from slackwater.protocols.events import streaming
from slackwater.protocols.events.feed import Feed
from slackwater.protocols.events.subscription import CHANNELS, Subscription
from slackwater.protocols.events.translation import SPAN
from slackwater.runtime.events.run_reader import StreamCut
from slackwater.runtime.process import stop
from slackwater.web.streams import bounds as limits
from slackwater.web.streams.bounds import Bounds

ALL = Subscription(frozenset(CHANNELS))

Told = dict[str, Any]


@pytest.fixture
async def api(serve: Any) -> AsyncIterator[Api]:
    """An application for Alice and Bob."""
    async with serve(names=("alice", "bob")) as api:
        yield api


@pytest.fixture
def http(api: Api) -> httpx.AsyncClient:
    return api.client("alice")


def feed_of(api: Api, thread: str, since: int | None = None, owner: str = "alice") -> Feed:
    return Feed(api.services.runtime.thread_log, owner, UUID(thread), since)


def told_in(text: bytes) -> list[Told]:
    """The data of the events in a body, each of which says in its frame what it says itself."""
    told = []
    for block in text.decode().split("\r\n\r\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\r\n") if ": " in line)
        if "event" in fields:
            data = orjson.loads(fields["data"])
            told.append(data)
            if data["type"] == "event":
                assert (fields["event"], fields["id"]) == (data["method"], str(data["seq"]))
    return told


async def listen(chunks: AsyncGenerator[bytes], over: Callable[[list[Told]], bool]) -> list[Told]:
    """What is told until it is over."""
    told: list[Told] = []
    async with asyncio.timeout(15), aclosing(chunks):
        async for chunk in chunks:
            told += told_in(chunk)
            if over(told):
                break
    return told


def is_end(told: Told, statuses: tuple[str, ...] = ("completed", "failed")) -> bool:
    return (
        told.get("method") == "lifecycle"
        and not told["params"]["namespace"]
        and told["params"]["data"]["event"] in statuses
    )


def ends(count: int) -> Callable[[list[Told]], bool]:
    return lambda told: sum(map(is_end, told)) >= count


async def everything(api: Api, thread: str, count: int = 1, **options: Any) -> list[Told]:
    """All that is told of a thread, up to the end of so many runs."""
    return await listen(streaming.frames(feed_of(api, thread, **options), ALL), ends(count))


async def start(http: httpx.AsyncClient, thread: str, graph: str, given: Any, **params: Any) -> str:
    body = {"id": 1, "method": "run.start", "params": {"assistant_id": graph, "input": given, **params}}
    told = (await http.post(f"/threads/{thread}/commands", json=body)).json()
    assert told["type"] == "success", told
    run_id: str = told["result"]["run_id"]
    return run_id


async def run(http: httpx.AsyncClient, thread: str, graph: str, given: Any, **params: Any) -> str:
    run_id = await start(http, thread, graph, given, **params)
    await http.get(f"/threads/{thread}/runs/{run_id}/join")
    return run_id


async def test_two_connections_hear_the_same_live_and_later(api: Api, http: httpx.AsyncClient) -> None:
    thread = str(uuid4())
    # GIVEN two who listen from before the thread is there, one of them to less
    some = Subscription(frozenset({"messages", "lifecycle"}))
    listening = [
        asyncio.create_task(everything(api, thread, 2)),
        asyncio.create_task(everything(api, thread, 2)),
        asyncio.create_task(listen(streaming.frames(feed_of(api, thread), some), ends(2))),
    ]
    await asyncio.sleep(0.2)
    # WHEN two runs are started
    for text in ("one", "two"):
        await run(http, thread, "talk", {"messages": [{"role": "user", "content": text}]})
    one, two, less = await asyncio.gather(*listening)
    # THEN they have heard the same, and so does who comes later
    assert one == two == await everything(api, thread, 2)
    assert less == [told for told in one if told["method"] in some.channels]
    numbers = [told["seq"] for told in one]
    assert numbers[0] == 1
    assert numbers == sorted(set(numbers))
    assert len({told["event_id"] for told in one}) == len(one)
    assert {told["method"] for told in one} == {*CHANNELS} - {"tools", "input", "custom"}


async def test_whoever_comes_back_with_any_number_gets_exactly_the_rest(
    api: Api, http: httpx.AsyncClient
) -> None:
    thread = str(uuid4())
    await run(http, thread, "asking", {})
    await http.post(f"/threads/{thread}/state", json={"values": {"text": "a"}})  # a fence that is no run's
    await run(http, thread, "asking", None)
    body = {"responses": [{"interrupt_id": i["id"], "response": "yes"} for t in (
        await http.get(f"/threads/{thread}")).json()["interrupts"].values() for i in t]}  # fmt: skip
    await http.post(f"/threads/{thread}/commands", json={"id": 1, "method": "input.respond", "params": body})
    whole = await everything(api, thread)
    assert [
        told["seq"] // SPAN for told in whole if told["params"]["data"].get("event") == "running"
    ] == sorted({told["seq"] // SPAN for told in whole})
    for position in range(0, len(whole) - 1, 3):
        rest = await everything(api, thread, since=whole[position]["seq"])
        assert rest == whole[position + 1 :]


async def test_a_run_that_is_rolled_back_moves_no_number(api: Api, http: httpx.AsyncClient) -> None:
    thread = str(uuid4())
    heard = asyncio.Event()

    def over(told: list[Told]) -> bool:
        if len(told) > 2:
            heard.set()
        return ends(1)(told)

    listening = asyncio.create_task(listen(streaming.frames(feed_of(api, thread), ALL), over))
    gone = await start(http, thread, "steps", {"n": 200, "sleep": 0.1})
    async with asyncio.timeout(10):
        await heard.wait()
    kept = await run(http, thread, "steps", {"n": 1}, multitaskStrategy="rollback")
    # GIVEN a reader who has heard of both, and one who can only hear of the second
    both, one = await listening, await everything(api, thread)
    assert {gone in both[0]["event_id"], kept in one[0]["event_id"]} == {True}
    assert both[-len(one) :] == one
    assert await everything(api, thread, since=both[1]["seq"]) == one


async def test_anothers_thread_is_waited_for_like_one_that_is_not_there(
    api: Api, http: httpx.AsyncClient
) -> None:
    hers, nobodys = str(uuid4()), str(uuid4())
    await run(http, hers, "echo", {"text": "a"})
    for thread in (hers, nobodys):
        chunks = streaming.frames(feed_of(api, thread, owner="bob"), ALL)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5), aclosing(chunks):
                await anext(chunks)


async def test_a_thread_that_is_made_anew_under_its_id_is_told_from_its_beginning(
    api: Api, http: httpx.AsyncClient
) -> None:
    thread, told, heard = str(uuid4()), list[Told](), asyncio.Event()

    async def read() -> None:
        async for chunk in streaming.frames(feed_of(api, thread), ALL):
            told.extend(told_in(chunk))
            heard.set()

    async def until(count: int) -> None:
        async with asyncio.timeout(10):
            while not ends(count)(told):
                heard.clear()
                await heard.wait()

    reading = asyncio.create_task(read())
    # GIVEN a reader who has heard of two runs
    for _ in range(2):
        await run(http, thread, "echo", {"text": "old"})
    await until(2)
    # WHEN the thread is deleted and at once made again
    await http.delete(f"/threads/{thread}")
    await run(http, thread, "echo", {"text": "new"})
    # THEN he hears of the new one all that there is
    await until(3)
    reading.cancel()
    new = await everything(api, thread)
    assert told[-len(new) :] == new
    assert new[0]["seq"] == 1


async def test_who_has_missed_what_was_trimmed_is_told_so(api: Api, http: httpx.AsyncClient) -> None:
    thread = str(uuid4())
    first = await run(http, thread, "echo", {"text": "a"})
    seen = await everything(api, thread)
    await run(http, thread, "echo", {"text": "b"})
    both = await everything(api, thread, 2)
    await api.database.execute("delete from slackwater.run_events where run_id = %s", [first])
    # WHEN the first run's events are gone THEN the second's have the same numbers
    kept = both[len(seen) :]
    assert await everything(api, thread) == kept
    # AND who had heard of a part of the first is told that the rest of it is missing
    notice, *rest = await everything(api, thread, since=seen[1]["seq"])
    assert (notice["type"], notice["id"], notice["error"]) == ("error", None, "resume_gap")
    assert (notice["since"], notice["min_available_seq"]) == (seen[1]["seq"], SPAN + 1)
    assert rest == kept
    assert await everything(api, thread, since=kept[0]["seq"]) == kept[1:]


async def test_a_process_that_leaves_tells_what_is_stored_and_then_cuts_the_connection(
    api: Api, http: httpx.AsyncClient
) -> None:
    thread, runtime = str(uuid4()), api.services.runtime
    told: list[Told] = []

    async def read() -> None:
        async for chunk in streaming.frames(feed_of(api, thread), ALL):
            told.extend(told_in(chunk))

    reading = asyncio.create_task(read())
    run_id = await start(http, thread, "steps", {"n": 2, "sleep": 0.2})
    while not api.services.runtime.worker.attempts:
        await asyncio.sleep(0.01)
    # WHEN the drain begins THEN the reader stays, for it may have nowhere else to go yet
    stop.stop_claiming(runtime, "test")
    while (await http.get(f"/threads/{thread}/runs/{run_id}")).json()["status"] != "success":
        await asyncio.sleep(0.02)
    assert not reading.done()
    # WHEN the doors close THEN it is told the rest, and cut
    stop.close(runtime)
    with pytest.raises(StreamCut):
        async with asyncio.timeout(5):
            await reading
    assert is_end(told[-1])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "Invalid JSON body"),
        (b"[]", "channels is required and must be a non-empty array"),
        (b"{}", "channels is required and must be a non-empty array"),
        (b'{"channels": []}', "channels is required and must be a non-empty array"),
        (b'{"channels": "values"}', "channels is required and must be a non-empty array"),
        (
            b'{"channels": ["values", "bogus"]}',
            "channels contains unsupported entries: bogus. Allowed: values, ",
        ),
        (b'{"channels": [7]}', "channels contains unsupported entries: 7."),
        (b'{"channels": ["custom:"]}', "channels contains unsupported entries: custom:."),
    ],
)
async def test_what_makes_no_sense_is_refused(http: httpx.AsyncClient, body: bytes, message: str) -> None:
    answer = await http.post(f"/threads/{uuid7()}/stream/events", content=body)
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith(message)


# Where answers are collected, or end with the time of a function


def limited(live: bool, seconds: float) -> Bounds:
    until = time.monotonic() + seconds
    return Bounds(live, until, until, until)


async def collect(chunks: AsyncGenerator[bytes]) -> list[Told]:
    return told_in(b"".join([chunk async for chunk in chunks]))


async def test_a_collected_answer_holds_a_run_to_its_end_and_ends_cleanly(
    api: Api, http: httpx.AsyncClient
) -> None:
    thread = str(uuid4())
    page = asyncio.create_task(collect(streaming.page(feed_of(api, thread), ALL, limited(False, 10))))
    await run(http, thread, "steps", {"n": 3, "sleep": 0.1})
    async with asyncio.timeout(streaming.PAGE_SECONDS):
        told = await page
    assert told == await everything(api, thread)


async def test_a_collected_answer_without_an_end_ends_in_time(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "PAGE_SECONDS", 0.3)
    began = time.monotonic()
    assert await collect(streaming.page(feed_of(api, str(uuid4())), ALL, limited(False, 10))) == []
    assert time.monotonic() - began < 5


async def test_pages_that_are_full_go_on_where_they_have_ended(
    api: Api, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = str(uuid4())
    await run(http, thread, "steps", {"n": 5})
    whole = await everything(api, thread)
    monkeypatch.setattr(limits, "PAGE_BYTES", 4000)
    told: list[Told] = []
    while not ends(1)(told):
        since = told[-1]["seq"] if told else None
        page = await collect(streaming.page(feed_of(api, thread, since), ALL, limited(False, 5)))
        assert len(page) < len(whole)
        told += page
    assert told == whole


async def test_an_event_that_no_answer_can_hold_is_named_in_its_place(
    api: Api, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = str(uuid4())
    await run(http, thread, "echo", {"text": "x" * 20_000})
    monkeypatch.setattr(limits, "RESPONSE_BYTES", 10_000)
    monkeypatch.setattr(json_format, "RESPONSE_BYTES", 10_000)
    told = await collect(streaming.page(feed_of(api, thread), ALL, limited(False, 5)))
    whole = await everything(api, thread)
    assert [one["seq"] for one in told] == [one["seq"] for one in whole]
    refused = [one for one in told if one["type"] == "error"]
    assert refused
    assert {one["error"] for one in refused} == {"event_too_large"}


async def test_a_live_answer_is_cut_when_its_time_is_over(api: Api, http: httpx.AsyncClient) -> None:
    thread = str(uuid4())
    await run(http, thread, "echo", {"text": "a"})
    told: list[Told] = []

    async def read() -> None:
        async for chunk in streaming.page(feed_of(api, thread), ALL, limited(True, 2)):
            told.extend(told_in(chunk))

    with pytest.raises(StreamCut):
        await read()
    assert told == await everything(api, thread)
