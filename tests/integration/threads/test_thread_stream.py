"""The stream of a thread: all its runs one after the other, exact across connections, processes and pages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import httpx
import orjson
import pytest

from slackwater.api.threads import streaming
from slackwater.identity.principal import LOCAL_OWNER, Principal
from slackwater.kit.ids import uuid7
from slackwater.postgres.pool import Database
from slackwater.runtime.events.journal import BEGINNING, EventId
from slackwater.runtime.events.run_reader import StreamCut
from slackwater.runtime.process import stop
from slackwater.runtime.runtime import Runtime
from slackwater.web.streams.bounds import Bounds

Client = Callable[..., httpx.AsyncClient]
Run = Callable[..., Any]
Part = tuple[EventId, str, Any]

ALL = frozenset(streaming.MODES)
ME = Principal(LOCAL_OWNER)


def parsed(text: bytes) -> list[Part]:
    """The events in a body."""
    parts = []
    for block in text.decode().split("\r\n\r\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\r\n") if ": " in line)
        if "event" in fields:
            event_id = EventId.parse(fields["id"])
            assert event_id is not None
            parts.append((event_id, fields["event"], orjson.loads(fields["data"])))
    return parts


@pytest.fixture
def services(runtime: Runtime) -> Any:
    return SimpleNamespace(settings=runtime.settings, database=runtime.database, runtime=runtime)


async def read_until(chunks: AsyncIterator[bytes], over: Callable[[list[Part]], bool]) -> list[Part]:
    """What comes until there is enough."""
    parts: list[Part] = []
    async with asyncio.timeout(15), aclosing(chunks):  # type: ignore[type-var]
        async for chunk in chunks:
            parts += parsed(chunk)
            if over(parts):
                return parts
    return parts


def ends(count: int) -> Callable[[list[Part]], bool]:
    return lambda parts: sum(is_end(part) for part in parts) >= count


def is_end(part: Part) -> bool:
    return part[1] == "metadata" and part[2].get("status") == "run_done"


async def test_it_goes_on_from_run_to_run_and_tells_the_end_of_each(
    services: Any, run: Run, thread: str
) -> None:
    # GIVEN a run that is over before anybody reads, and one that begins while he does
    first = await run(thread, "steps", {"n": 2})
    chunks = streaming.frames(services, ME, UUID(thread), BEGINNING, {"run_modes"})
    reading = asyncio.create_task(read_until(chunks, ends(2)))
    await asyncio.sleep(0.2)
    second = await run(thread, "steps", {"n": 3})
    # WHEN he has read both
    parts = await reading
    # THEN each begins and ends, in order, and no id comes twice
    ids = [part[0] for part in parts]
    assert ids == sorted(set(ids))
    metadata = [part[2] for part in parts if part[1] == "metadata"]
    assert metadata == [
        {"run_id": str(first["run_id"]), "attempt": 1},
        {"status": "run_done", "run_id": str(first["run_id"])},
        {"run_id": str(second["run_id"]), "attempt": 1},
        {"status": "run_done", "run_id": str(second["run_id"])},
    ]
    assert is_end(parts[-1])


async def test_whoever_comes_back_with_any_id_gets_exactly_the_rest(
    services: Any, run: Run, thread: str
) -> None:
    for n in (2, 1):
        await run(thread, "steps", {"n": n})
    whole = await read_until(streaming.frames(services, ME, UUID(thread), BEGINNING, {"run_modes"}), ends(2))
    for position in range(len(whole) - 1):
        cursor = whole[position][0]
        rest = whole[position + 1 :]
        chunks = streaming.frames(services, ME, UUID(thread), cursor, {"run_modes"})
        assert await read_until(chunks, ends(sum(map(is_end, rest)))) == rest


async def test_who_says_nothing_gets_only_what_comes_from_now_on(
    services: Any, runtime: Runtime, run: Run, thread: str
) -> None:
    assert await runtime.thread_log.newest(LOCAL_OWNER, UUID(thread)) == BEGINNING
    await run(thread, "steps", {"n": 1})
    cursor = await runtime.thread_log.newest(LOCAL_OWNER, UUID(thread))
    reading = asyncio.create_task(
        read_until(streaming.frames(services, ME, UUID(thread), cursor, {"run_modes"}), ends(1))
    )
    await asyncio.sleep(0.3)
    row = await run(thread, "steps", {"n": 1})
    assert (await reading)[0][2] == {"run_id": str(row["run_id"]), "attempt": 1}


async def test_modes_say_which_events_come(
    services: Any, run: Run, http: httpx.AsyncClient, thread: str
) -> None:
    await run(thread, "echo", {"text": "a"})
    await http.post(f"/threads/{thread}/state", json={"values": {"text": "b"}, "as_node": "echo"})
    await run(thread, "echo", {"text": "c"})

    async def names(*modes: str) -> list[str]:
        frames = streaming.frames(services, ME, UUID(thread), BEGINNING, modes)
        enough = ends(2) if modes != ("state_update",) else len
        return [part[1] for part in await read_until(frames, enough)]  # type: ignore[arg-type]

    assert await names("lifecycle") == ["metadata"] * 4
    assert await names("state_update") == ["state_update"]
    assert "state_update" not in await names("run_modes")
    everything = await read_until(streaming.frames(services, ME, UUID(thread), BEGINNING, ALL), ends(2))
    (update,) = [part[2] for part in everything if part[1] == "state_update"]
    assert update["thread_id"] == thread
    assert update["state"]["values"]["text"] == "b"


async def test_what_was_trimmed_is_announced(
    services: Any, run: Run, thread: str, database: Database
) -> None:
    row = await run(thread, "steps", {"n": 2})
    await database.execute("delete from slackwater.run_events where run_id = %s", [row["run_id"]])
    parts = await read_until(streaming.frames(services, ME, UUID(thread), BEGINNING, {"lifecycle"}), ends(1))
    assert [part[1] for part in parts] == ["gap", "metadata"]
    assert parts[0][2] == {"first_available_id": str(parts[1][0])}


async def test_it_ends_with_its_thread(services: Any, http: httpx.AsyncClient, thread: str) -> None:
    chunks = streaming.frames(services, ME, UUID(thread), BEGINNING, ALL)
    reading = asyncio.create_task(read_until(chunks, lambda _: False))
    await asyncio.sleep(0.2)
    await http.delete(f"/threads/{thread}")
    assert await reading == []


async def test_a_process_that_leaves_cuts_its_readers(services: Any, runtime: Runtime, thread: str) -> None:
    chunks = streaming.frames(services, ME, UUID(thread), BEGINNING, ALL)
    reading = asyncio.create_task(read_until(chunks, lambda _: False))
    await asyncio.sleep(0.2)
    stop.stop_claiming(runtime, "test")
    with pytest.raises(StreamCut):
        await reading


async def test_pages_are_the_stream_in_pieces(services: Any, run: Run, thread: str) -> None:
    await run(thread, "steps", {"n": 2})
    whole = await read_until(streaming.frames(services, ME, UUID(thread), BEGINNING, ALL), ends(1))

    def bounds(seconds: float, *, live: bool) -> Bounds:
        until = time.monotonic() + seconds
        return Bounds(live=live, until=until, wait_until=until, page_until=until)

    # collected: it ends soon after its first events, without a cut
    page = streaming.page(services, ME, UUID(thread), BEGINNING, ALL, bounds(5, live=False))
    assert parsed(b"".join([chunk async for chunk in page])) == whole
    # nothing has happened: its id says where to go on
    last = whole[-1][0]
    page = streaming.page(services, ME, UUID(thread), last, ALL, bounds(0.3, live=False))
    assert [chunk async for chunk in page] == [f"id: {last}\r\n\r\n".encode()]
    # live: it is cut, and never ended, so that the reader comes back
    seen = []
    page = streaming.page(services, ME, UUID(thread), BEGINNING, ALL, bounds(2, live=True))
    with pytest.raises(StreamCut):  # noqa: PT012
        while True:
            seen.append(await anext(page))
    assert parsed(b"".join(seen)) == whole


@pytest.mark.parametrize(
    ("query", "headers", "text"),
    [
        ("?stream_modes=bogus", {}, "Invalid stream mode: bogus"),
        ("?stream_mode=run_modes,bogus", {}, "Invalid stream mode: bogus"),
        ("", {"Last-Event-ID": "bogus"}, "Invalid last-event-id: must be a valid Redis stream ID"),
        ("", {"Last-Event-ID": "-1"}, "Invalid last-event-id: must be a valid Redis stream ID"),
    ],
)
async def test_parameters_that_make_no_sense_are_refused(
    http: httpx.AsyncClient, thread: str, query: str, headers: dict[str, str], text: str
) -> None:
    answer = await http.get(f"/threads/{thread}/stream{query}", headers=headers)
    assert (answer.status_code, answer.json()) == (422, {"detail": text})


async def test_what_another_owns_is_not_found_like_what_is_not_there(client: Client) -> None:
    hers = (await client("alice").post("/threads", json={})).json()["thread_id"]
    for thread in (hers, str(uuid7())):
        answer = await client("bob").get(f"/threads/{thread}/stream")
        assert (answer.status_code, answer.json()) == (404, {"detail": f"Thread with ID {thread} not found"})
