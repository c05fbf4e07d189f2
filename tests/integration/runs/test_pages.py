"""A stream in pages: a stock client reads one complete sequence, as from a container."""

from __future__ import annotations

import asyncio
import random
from typing import Any
from uuid import UUID

import langgraph_sdk._async.http as stock
import pytest
from gateway import Answer, Environment, Gateway, Holds, Start, read, without_fillers
from support.impatience import impatient
from support.parts import Part, comparable, sequences

from slackwater.postgres.pool import Database
from slackwater.web.streams import bounds

MODES: list[str | list[str]] = [
    "values",
    "updates",
    "messages",
    "messages-tuple",
    "events",
    "debug",
    "tasks",
    "checkpoints",
    "custom",
    ["values", "updates"],
    ["updates", "messages-tuple", "custom"],
    ["values", "messages", "debug"],
    ["events", "values"],
]

TALK = {"sleep": 0.7, "messages": [{"role": "user", "content": "one two three", "id": "m1"}]}


def steps(parts: list[Part]) -> list[str]:
    """What the nodes of `line` and `held` have left, in the order in which a client read it."""
    return [
        name
        for event, data in parts
        if event == "updates"
        for update in data.values()
        for name in update["log"]
    ]


async def status_of(database: Database, run_id: str) -> str:
    """What is true, whatever is shown."""
    row = await database.fetch_one("select status from slackwater.runs where run_id = %s", [run_id])
    assert row is not None
    return str(row["status"])


async def until_over(database: Database, run_id: str) -> None:
    async with asyncio.timeout(10):
        while await status_of(database, run_id) in ("pending", "running"):
            await asyncio.sleep(0.01)


# One sequence


@pytest.mark.parametrize("live", [False, True])
async def test_in_every_stream_mode_a_cut_stream_reads_like_a_container_s(
    environment: Environment, live: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "RESERVE_SECONDS", 3.5)
    asked = [(mode, subgraphs) for mode in MODES for subgraphs in (False, True)]

    async def read_all(gateway: Gateway) -> list[list[Part]]:
        async with gateway.serve() as client:
            return await asyncio.gather(
                *(read(client, "talk", TALK, stream_mode=mode, stream_subgraphs=sub) for mode, sub in asked)
            )

    wanted = await read_all(Gateway(environment, live=None))
    gateway = Gateway(environment, live=live, seconds=6 if live else 28)
    got = await read_all(gateway)

    for question, one, other in zip(asked, wanted, got, strict=True):
        assert sequences(question[0], one) == sequences(question[0], other), question
    # THEN it was cut indeed, and said where to come back to
    # A busy machine may not get so far within a page's time.
    begun = [page for page in gateway.pages if page.status]
    assert len(begun) >= 2 * len(asked)
    assert all("reader=" in page.headers["location"] for page in begun)


async def test_every_page_but_the_last_holds_an_event_and_no_event_is_sent_twice(gateway: Gateway) -> None:
    async with gateway.serve() as client:
        parts = await read(client, "line", {"n": 12, "sleep": 0.25}, stream_mode="updates")
    assert steps(parts) == [f"step-{i}" for i in range(12)]
    ids = [event_id for page in gateway.pages for name, _, event_id in page.events if name != "metadata"]
    assert len(ids) == len(set(ids)) == 12
    assert len(gateway.pages) >= 2
    assert all(page.events and page.events[-1][2] for page in gateway.pages[:-1])
    assert all(page.seconds >= 1 for page in gateway.pages[:-1])


async def test_twenty_clients_of_two_environments_read_complete_sequences(start: Start) -> None:
    environments = [await start() for _ in range(2)]
    options: dict[str, Any] = {
        "stream_mode": ["values", "updates", "custom", "tasks"],
        "stream_subgraphs": True,
    }
    async with Gateway(environments[0], live=None).serve() as client:
        wanted = comparable(await read(client, "line", {"n": 10, "sleep": 0.25}, **options))
    gateway = Gateway(*environments)
    async with gateway.serve() as client:

        async def one() -> list[str]:
            await asyncio.sleep(random.uniform(0, 0.8))
            return comparable(await read(client, "line", {"n": 10, "sleep": 0.25}, **options))

        got = await asyncio.gather(*(one() for _ in range(20)))
    for lines in got:
        assert lines == wanted


@pytest.mark.parametrize("live", [False, True])
async def test_a_drain_in_the_middle_of_a_page_ends_it_cleanly_and_nothing_is_missed(
    start: Start, live: bool
) -> None:
    first, second = await start(), await start(sweep_seconds=0.2)
    async with Gateway(second, live=None).serve() as client:
        wanted = comparable(await read(client, "talk", TALK, stream_mode=["values", "messages", "updates"]))
    gateway = Gateway(first, live=live)
    async with gateway.serve() as client:
        options: dict[str, Any] = {"stream_mode": ["values", "messages", "updates"]}
        readers = [asyncio.create_task(read(client, "talk", TALK, **options)) for _ in range(8)]
        begun: set[UUID] = set()
        async with asyncio.timeout(20):
            while len(begun) < len(readers):
                begun |= first.services.runtime.worker.live.keys()
                await asyncio.sleep(0.01)
        gateway.environments[:] = [second]
        await first.services.stop.drain("test", 30)
        got = await asyncio.gather(*readers)
    assert any(run["handed_over"] for run in first.services.stop.report["runs"])  # type: ignore[index]
    assert {(page.status, page.complete) for page in gateway.pages} == {(200, True)}
    for parts in got:
        assert comparable(parts) == wanted


async def test_the_stream_of_a_run_without_a_thread_goes_over_several_pages(gateway: Gateway) -> None:
    async with gateway.serve() as client:
        given = {"n": 8, "sleep": 0.25}
        parts = [
            (part.event, part.data)
            async for part in client.runs.stream(None, "line", input=given, stream_mode="updates")
        ]
    assert steps(parts) == [f"step-{i}" for i in range(8)]
    assert len(gateway.pages) >= 2


async def test_the_error_of_a_run_ends_its_stream_on_a_later_page(gateway: Gateway, holds: Holds) -> None:
    holds.hold("a")
    async with gateway.serve() as client:

        async def let_go(_: Answer) -> None:
            holds.let_go("a")

        gateway.on_answer = let_go
        parts = await read(client, "boom", {"log": []}, stream_mode="updates")
    assert [event for event, _ in parts] == ["metadata", "updates", "error"]
    assert parts[-1][1] == {"error": "ValueError", "message": "boom"}


# Pages without an event


async def test_a_client_waits_over_more_pages_without_an_event_than_it_has_tries(
    start: Start, holds: Holds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stock, "_reconnect_delay", lambda *_, **__: 0.01)
    gateway = Gateway(await start(stream_page_seconds=0.2))
    holds.hold("b")

    async def count(answer: Answer) -> None:
        if answer.is_page:  # what comes before is on the first two, however slow the machine is
            await holds.until_reached("b")
        if len(gateway.pages) == 9:
            holds.let_go("b")

    gateway.on_answer = count
    async with gateway.serve() as client:
        parts = await read(client, "held", {"log": []}, stream_mode="updates")
    assert steps(parts) == ["a", "b", "c"]
    # THEN the fillers say what the stream began with, and leave the cursor where it was
    fillers = [page.events for page in gateway.pages[2:8]]
    assert [len(filler) for filler in fillers] == [1] * 6
    assert {filler[0][:2] for filler in fillers} == {gateway.pages[0].events[0][:2]}
    assert {filler[0][2] for filler in fillers} == {gateway.pages[1].events[-1][2] or ""}


async def test_who_wants_only_what_comes_from_now_on_gets_it_also_after_pages_without_any(
    start: Start, holds: Holds
) -> None:
    gateway = Gateway(await start(stream_page_seconds=0.5))
    holds.hold("b")
    async with gateway.serve() as client:
        thread = await client.threads.create()
        run = await client.runs.create(thread["thread_id"], "held", input={"log": []}, stream_mode="updates")
        await holds.until_reached("b")

        async def let_go(answer: Answer) -> None:
            if answer.is_page:
                holds.let_go("b")
                await until_over(gateway.environments[0].services.database, run["run_id"])

        gateway.on_answer = let_go
        joined = client.runs.join_stream(thread["thread_id"], run["run_id"], stream_mode="updates")
        parts = without_fillers([(part.event, part.data) async for part in joined])
    # AND the run had ended between its first page and its second
    assert steps(parts) == ["b", "c"]
    assert "stream_mode" in gateway.pages[1].query


async def test_a_run_that_nobody_works_on_yet_has_pages_too(start: Start) -> None:
    gateway = Gateway(await start(stream_page_seconds=0.4, max_concurrent_runs=0))
    async with gateway.serve() as client:
        http = client.http.client
        thread = await client.threads.create()
        body = {"assistant_id": "line", "input": {"n": 1}}
        answer = await http.post(f"/threads/{thread['thread_id']}/runs/stream", json=body)
    [(name, data, event_id)] = gateway.pages[0].events
    run_id = answer.headers["content-location"].rpartition("/")[2]
    assert (name, event_id) == ("metadata", "0-0")
    assert data == f'{{"run_id":"{run_id}","attempt":1}}'


# A run that ends between two pages


class Between:
    """A run of `held` whose first page has ended, raw: `b` waits."""

    def __init__(self, gateway: Gateway, client: Any, thread_id: str) -> None:
        self.http, self.client, self.database = (
            client.http.client,
            client,
            gateway.environments[0].services.database,
        )
        self.thread_id = thread_id
        self.run_id = ""

    async def begin(self) -> str:
        """The first reader's Location."""
        body = {"assistant_id": "held", "input": {"log": []}, "stream_mode": "updates"}
        answer = await self.http.post(f"/threads/{self.thread_id}/runs/stream", json=body)
        self.run_id = answer.headers["content-location"].rpartition("/")[2]
        return str(answer.headers["location"])

    async def join(self) -> str:
        """Another reader's Location."""
        path = f"/threads/{self.thread_id}/runs/{self.run_id}/stream"
        return str((await self.http.get(path, headers={"Last-Event-ID": "-1"})).headers["location"])

    async def come_back(self, location: str) -> str:
        """What the rest of it is."""
        return str((await self.http.get(location, headers={"Last-Event-ID": "1-1"})).text)

    async def shown(self) -> str:
        row = (await self.http.get(f"/threads/{self.thread_id}/runs/{self.run_id}")).json()
        rows = (await self.http.get(f"/threads/{self.thread_id}/runs")).json()
        named = await self.client.runs.list(self.thread_id, status=row["status"])
        assert [row["status"]] == [row["status"] for row in rows] == [row["status"] for row in named]
        return str(row["status"])

    async def pretend(self, seconds: float) -> None:
        """Let `seconds` have gone by since the readers were sent away."""
        await self.database.execute(
            "update slackwater.cut_readers set cut_at = cut_at - %s * interval '1 second'", [seconds]
        )


@pytest.fixture
async def between(gateway: Gateway, holds: Holds) -> Any:
    holds.hold("b")
    async with gateway.serve() as client:
        yield Between(gateway, client, (await client.threads.create())["thread_id"])


async def test_a_run_that_ends_between_two_pages_is_read_to_its_end(gateway: Gateway, holds: Holds) -> None:
    holds.hold("b")
    told: list[str] = []

    async def finish(answer: Answer) -> None:
        if answer.is_page and not told:
            holds.let_go("b")
            run_id = answer.headers["content-location"].rpartition("/")[2]
            database = gateway.environments[0].services.database
            await until_over(database, run_id)
            told.append(await status_of(database, run_id))

    gateway.on_answer = finish
    async with gateway.serve() as client:
        parts = await read(client, "held", {"log": []}, stream_mode="updates")
    assert told == ["success"]
    assert steps(parts) == ["a", "b", "c"]
    assert len(gateway.pages) == 2


async def test_an_ended_run_is_shown_as_running_until_its_reader_is_back(
    between: Between, holds: Holds
) -> None:
    location = await between.begin()
    holds.let_go("b")
    await until_over(between.database, between.run_id)
    assert await status_of(between.database, between.run_id) == "success"
    assert await between.shown() == "running"
    assert '"log":["c"]' in await between.come_back(location)
    assert await between.shown() == "success"


async def test_one_reader_who_returns_does_not_hide_another(between: Between, holds: Holds) -> None:
    one = await between.begin()
    other = await between.join()
    assert one != other
    holds.let_go("b")
    await until_over(between.database, between.run_id)
    assert '"log":["c"]' in await between.come_back(one)
    assert await between.shown() == "running"
    # WHEN the first one asks twice, and a stranger reads it all
    await between.come_back(one)
    await between.join()
    assert await between.shown() == "running"
    assert '"log":["c"]' in await between.come_back(other)
    assert await between.shown() == "success"


async def test_after_ten_seconds_the_truth_is_shown_whoever_has_not_returned(
    between: Between, holds: Holds
) -> None:
    location = await between.begin()
    holds.let_go("b")
    await until_over(between.database, between.run_id)
    await between.pretend(4)
    assert await between.shown() == "running"
    await between.pretend(6)
    assert await between.shown() == "success"
    # AND who returns later still reads the rest
    assert '"log":["c"]' in await between.come_back(location)


async def test_those_who_never_came_back_are_forgotten(between: Between, holds: Holds) -> None:
    await between.begin()
    await between.pretend(11)
    await between.join()
    rows = await between.database.fetch("select run_id from slackwater.cut_readers")
    assert rows == [{"run_id": UUID(between.run_id)}]


async def test_a_run_s_thread_does_not_wait_for_a_reader(between: Between, holds: Holds) -> None:
    await between.begin()
    following = await between.client.runs.create(between.thread_id, "line", input={"n": 1})
    holds.let_go("b")
    await until_over(between.database, following["run_id"])
    shown = await between.client.runs.get(between.thread_id, between.run_id)
    assert (shown["status"], await status_of(between.database, between.run_id)) == ("running", "success")


async def test_a_page_that_cannot_be_recorded_is_not_answered_unless_it_has_started_the_run(
    start: Start, holds: Holds, database: Database
) -> None:
    holds.hold("b")
    environment = await start()
    gateway = Gateway(environment)
    async with gateway.serve() as client:
        between = Between(gateway, client, (await client.threads.create())["thread_id"])
        async with database.connection() as connection, connection.transaction():
            await connection.execute("lock table slackwater.cut_readers in access exclusive mode")
            with impatient(environment.services.database, 1):
                location = await between.begin()
                path, _, _ = location.partition("?")
                refused = await between.http.get(path, headers={"Last-Event-ID": "1-1"})
        holds.let_go("b")
        await until_over(between.database, between.run_id)
    assert (gateway.pages[0].status, gateway.pages[0].events[0][0]) == (200, "metadata")
    assert refused.status_code == 503


async def test_a_client_that_has_read_all_does_not_give_up_while_another_one_is_away(
    between: Between, holds: Holds, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a client whose five tries are over in no time
    monkeypatch.setattr(stock, "_reconnect_delay", lambda *_, **__: 0.01)
    await between.begin()
    holds.let_go("b")
    await until_over(between.database, between.run_id)
    await between.pretend(8)
    (away,) = await between.database.fetch(
        "select cut_at + interval '10 seconds' as until from slackwater.cut_readers"
    )
    # WHEN it reads to the end, and somebody else is shown that the run goes on, for two more seconds
    joined = between.client.runs.join_stream(between.thread_id, between.run_id, last_event_id="-1")
    parts = [(part.event, part.data) async for part in joined]
    # THEN it has waited for them, and its last event is the run's
    assert steps(parts) == ["a", "b", "c"]
    assert parts[-1][0] == "updates"
    (now,) = await between.database.fetch("select clock_timestamp() as now")
    assert now["now"] > away["until"]


async def test_many_clients_of_one_run_read_it_to_its_end(gateway: Gateway) -> None:
    async with gateway.serve() as client:
        thread = (await client.threads.create())["thread_id"]
        run = await client.runs.create(
            thread, "line", input={"n": 16, "sleep": 0.25}, stream_mode="updates", stream_resumable=True
        )

        async def one() -> list[str]:
            await asyncio.sleep(random.uniform(0, 2))
            joined = client.runs.join_stream(thread, run["run_id"], last_event_id="-1")
            return steps([(part.event, part.data) async for part in joined])

        got = await asyncio.gather(*(one() for _ in range(12)))
    assert got == [[f"step-{i}" for i in range(16)]] * 12


async def test_a_run_that_is_deleted_between_its_pages_ends_the_stream(between: Between) -> None:
    location = await between.begin()
    await between.client.runs.delete(between.thread_id, between.run_id)
    assert "404: Run not found" in await between.come_back(location)


async def test_a_run_that_is_deleted_while_a_page_waits_ends_the_stream(between: Between) -> None:
    location = await between.begin()
    page = asyncio.create_task(between.come_back(location))
    await asyncio.sleep(0.3)
    await between.client.runs.delete(between.thread_id, between.run_id)
    assert "404: Run not found" in await page


async def test_a_stream_that_began_in_pages_goes_on_in_a_container(gateway: Gateway, holds: Holds) -> None:
    holds.hold("b")

    async def move(_: Answer) -> None:
        if gateway.pages:
            gateway.live = None
            holds.let_go("b")

    gateway.on_answer = move
    async with gateway.serve() as client:
        parts = await read(client, "held", {"log": []}, stream_mode="updates")
    assert steps(parts) == ["a", "b", "c"]
    assert await gateway.environments[0].services.database.fetch("select 1 from slackwater.cut_readers") == []


# Readers that end their run


async def test_the_end_of_a_page_is_not_a_disconnect(gateway: Gateway) -> None:
    async with gateway.serve() as client:
        given = {"n": 10, "sleep": 0.25}
        parts = await read(client, "line", given, stream_mode="updates", on_disconnect="cancel")
    assert steps(parts) == [f"step-{i}" for i in range(10)]
    assert "cancel_on_disconnect=1" in gateway.pages[-1].query
    rows = await gateway.environments[0].services.database.fetch("select status from slackwater.runs")
    assert rows == [{"status": "success"}]


@pytest.mark.parametrize("live", [False, True])
async def test_a_reader_who_was_sent_away_and_does_not_return_is_waited_for(
    environment: Environment, holds: Holds, live: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "RESERVE_SECONDS", 2)
    holds.hold("b")
    gateway = Gateway(environment, live=live, seconds=3.5)
    async with gateway.serve() as client:
        thread = await client.threads.create()
        body = {"assistant_id": "held", "input": {"log": []}, "on_disconnect": "cancel"}
        await client.http.client.post(f"/threads/{thread['thread_id']}/runs/stream", json=body)
        row = await environment.services.database.fetch_one(
            "select status, reader_left_at from slackwater.runs"
        )
    assert row is not None
    assert row["status"] == "running"
    assert row["reader_left_at"] is not None
