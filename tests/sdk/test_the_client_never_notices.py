"""The stock client across a hand-over: what it reads is what it would have read without one."""

from __future__ import annotations

import asyncio
import random
from typing import Any
from uuid import uuid4

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from tests.drills.drill import Drill, steps
from tests.support.balancer import Balancer
from tests.support.effects import finished, repeated, started
from tests.support.parts import Part, comparable, sequences

pytestmark = [
    pytest.mark.drill,
    # The stock client says aloud that it comes back, where our users' programs print it once.
    pytest.mark.filterwarnings("ignore:Request failed, attempting reconnect:UserWarning"),
]

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


def client_of(url: str) -> LangGraphClient:
    return get_client(url=url, timeout=60, api_key=None)


async def read(client: LangGraphClient, graph: str, given: Any, **options: Any) -> list[Part]:
    """Everything that a client gets to see of a run that it starts and streams."""
    thread = await client.threads.create()
    return [
        (part.event, part.data)
        async for part in client.runs.stream(thread["thread_id"], graph, input=given, **options)
    ]


def run_id_of(parts: list[Part]) -> str:
    assert parts[0][0] == "metadata"
    return str(parts[0][1]["run_id"])


TALK = {"sleep": 0.3, "messages": [{"role": "user", "content": "one two three", "id": "m1"}]}


async def test_in_every_stream_mode_a_handed_over_run_reads_like_an_uninterrupted_one(drill: Drill) -> None:
    first, second = await drill.fleet.start(2)
    asked = [(mode, subgraphs) for mode in MODES for subgraphs in (False, True)]
    # GIVEN what a client reads when nobody stops anything
    async with Balancer([second]).serve() as quiet, client_of(quiet.url) as client:
        wanted = await asyncio.gather(
            *(read(client, "talk", TALK, stream_mode=mode, stream_subgraphs=sub) for mode, sub in asked)
        )
    # WHEN clients read the same, and their process is stopped in the middle
    async with Balancer([first]).serve() as balancer, client_of(balancer.url) as client:
        readers = [
            asyncio.create_task(read(client, "talk", TALK, stream_mode=mode, stream_subgraphs=sub))
            for mode, sub in asked
        ]
        # Not those that are active: the first may end before the last has begun.
        await drill.until(lambda: drill.begun("talk") == 2 * len(asked), what="all runs started")
        await asyncio.sleep(random.uniform(0.1, 0.6))
        balancer.replicas.append(second)
        await drill.stop(first)
        got = await asyncio.gather(*readers)
    # THEN they have read the same
    assert {run["outcome"] for run in first.report()["runs"]} <= {"drained", "finished"}
    assert "drained" in {run["outcome"] for run in first.report()["runs"]}
    different = [
        (question, _first_difference(one, other))
        for question, before, after in zip(asked, wanted, got, strict=True)
        for one, other in zip(sequences(question[0], before), sequences(question[0], after), strict=True)
        if one != other
    ]
    assert not different, "\n".join(map(str, different))
    for parts in got:
        effects = drill.effects.of(run_id_of(parts))
        assert not repeated(started(effects))


def _first_difference(wanted: list[str], got: list[str]) -> str:
    for number, (one, other) in enumerate(zip(wanted, got, strict=False)):
        if one != other:
            return (
                f"event {number} of {len(wanted)}/{len(got)}:\n  wanted {one[:900]}\n  got    {other[:900]}"
            )
    return f"{len(wanted)} events wanted, {len(got)} got; {(wanted + got)[min(len(wanted), len(got))][:300]}"


@pytest.mark.parametrize("graph", ["line", "crowd", "nest", "deep"])
async def test_twenty_clients_at_once_notice_nothing(drill: Drill, graph: str) -> None:
    first, second = await drill.fleet.start(2)
    # Longer than the time in which the clients come: the last to come are at work when the process is stopped.
    given = {"n": 8, "sleep": 0.2} if graph == "line" else {"n": 3, "sleep": 0.5}
    options: dict[str, Any] = {
        "stream_mode": ["values", "updates", "custom", "tasks", "checkpoints"],
        "stream_subgraphs": True,
    }
    async with Balancer([first, second]).serve() as balancer, client_of(balancer.url) as client:
        wanted = comparable(await read(client, graph, given, **options))

        async def one() -> list[Part]:
            await asyncio.sleep(random.uniform(0, 0.8))
            return await read(client, graph, given, **options)

        readers = [asyncio.create_task(one()) for _ in range(20)]
        # Every client has asked: whoever comes to a process that writes its last states is told to come again.
        await drill.until(lambda: drill.admitted(graph) == 21, what="all runs admitted")
        await drill.stop(first)
        got = await asyncio.gather(*readers)
    assert any(run["handed_over"] for run in first.report()["runs"])
    for parts in got:
        assert comparable(parts) == wanted, _first_difference(wanted, comparable(parts))
        effects = drill.effects.of(run_id_of(parts))
        assert not repeated(started(effects))


async def test_waiting_and_joining_clients_get_the_final_values(drill: Drill) -> None:
    first, second = await drill.fleet.start(2)
    given = {"n": 14, "sleep": 0.15}
    async with Balancer([first, second]).serve() as balancer, client_of(balancer.url) as client:

        async def wait() -> Any:
            thread = await client.threads.create()
            return await client.runs.wait(thread["thread_id"], "line", input=given)

        async def wait_stateless() -> Any:
            return await client.runs.wait(None, "line", input=given)

        async def join() -> Any:
            thread = await client.threads.create()
            run = await client.runs.create(thread["thread_id"], "line", input=given)
            return await client.runs.join(thread["thread_id"], run["run_id"])

        async def join_stream() -> Any:
            thread = await client.threads.create()
            run = await client.runs.create(thread["thread_id"], "line", input=given, stream_mode="values")
            parts = client.runs.join_stream(thread["thread_id"], run["run_id"], stream_mode="values")
            return [part.data async for part in parts][-1]

        asked = [asyncio.create_task(ask()) for ask in (wait, wait_stateless, join, join_stream) * 5]
        # Not those that are active: the first may end, and be deleted, before the last has begun.
        await drill.until(lambda: len(drill.effects.runs()) == len(asked), what="all runs started")
        await asyncio.sleep(random.uniform(0, 0.4))
        await drill.stop(first)
        answers = await asyncio.gather(*asked)
    assert any(run["handed_over"] for run in first.report()["runs"])
    for answer in answers:
        assert answer["log"] == steps(14), answer


async def test_runs_that_finish_exactly_during_the_drain_are_read_to_their_end(drill: Drill) -> None:
    # A node is long enough for all of them to begin meanwhile, and ends within the grace period.
    given = {"n": 1, "sleep": 2.5}
    first, second = await drill.fleet.start(2, env={"SLACKWATER_GRACE_SECONDS": "10"})
    async with (
        Balancer([first]).serve() as balancer,
        client_of(balancer.url) as client,
        client_of(second.url) as quiet,
    ):

        async def stream(client: LangGraphClient) -> list[str]:
            return comparable(await read(client, "line", given, stream_mode=["values", "updates"]))

        async def wait() -> Any:
            thread = await client.threads.create()
            return await client.runs.wait(thread["thread_id"], "line", input=given)

        uninterrupted = asyncio.create_task(stream(quiet))
        streams = [asyncio.create_task(stream(client)) for _ in range(10)]
        waits = [asyncio.create_task(wait()) for _ in range(5)]
        # WHEN the process is stopped while all are in their only node
        await drill.until(
            lambda: sum(effect.pid == first.pid for effect in drill.effects.after(0)) == 15,
            what="all runs are in their node",
        )
        balancer.replicas.append(second)
        await drill.stop(first)
        # THEN they ended where they were, and nobody missed the end
        assert [run["outcome"] for run in first.report()["runs"]] == ["finished"] * 15
        wanted = await uninterrupted
        for parts in await asyncio.gather(*streams):
            assert parts == wanted
        for answer in await asyncio.gather(*waits):
            assert answer["log"] == ["step-1"]


async def test_a_reader_who_asked_to_cancel_on_disconnect_may_come_back(drill: Drill) -> None:
    first, second = await drill.fleet.start(2)
    async with Balancer([first, second]).serve() as balancer, client_of(balancer.url) as client:
        reader = asyncio.create_task(
            read(client, "line", {"n": 14, "sleep": 0.15}, stream_mode="updates", on_disconnect="cancel")
        )
        await drill.until(lambda: drill.active("line") == 1, what="the run started")
        await asyncio.sleep(0.4)
        await drill.stop(first if drill.owned_by(first) else second)
        parts = await reader
    assert [data["step"]["log"][0] for event, data in parts if event == "updates"] == steps(14)
    run = drill.watcher.query("select status, handovers, run_id::text from slackwater.runs")[0]
    assert (run["status"], run["handovers"]) == ("success", 1)
    assert finished(drill.effects.of(run["run_id"])) == steps(14)


async def test_a_reader_who_went_away_by_himself_cancels_his_run(drill: Drill) -> None:
    [server] = await drill.fleet.start()
    async with client_of(server.url) as client:
        thread = await client.threads.create()
        stream = client.runs.stream(
            thread["thread_id"], "line", input={"n": 50, "sleep": 0.2}, on_disconnect="cancel"
        )
        async for part in stream:
            if part.event == "values":
                break
        await stream.aclose()  # type: ignore[attr-defined]
        await drill.until(lambda: drill.active("line") == 0, what="the run is cancelled")
    [run] = drill.watcher.query("select status from slackwater.runs")
    assert run["status"] == "interrupted"


async def test_a_stranger_who_reads_the_rest_gets_exactly_the_rest(drill: Drill) -> None:
    first, second = await drill.fleet.start(2)
    async with client_of(first.url) as here, client_of(second.url) as there:
        thread_id = str(uuid4())
        run = await here.runs.create(
            thread_id, "line", input={"n": 8, "sleep": 0.15}, stream_mode="updates", if_not_exists="create"
        )
        seen: list[tuple[str | None, Any]] = []

        async def follow(client: LangGraphClient, last: str) -> None:
            async for part in client.runs.join_stream(thread_id, run["run_id"], last_event_id=last):
                seen.extend([(part.id, part.data)])  # at once: this reader is cut off

        reader = asyncio.create_task(follow(here, "-1"))
        await drill.until(lambda: len(seen) > 2, what="what the first reader has read")
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        await drill.stop(first)
        # WHEN another client goes on where the first one has stopped, on another replica, in another attempt
        await follow(there, seen[-1][0] or "-1")
    ids = [tuple(map(int, (part_id or "").split("-"))) for part_id, _ in seen]
    assert ids == sorted(set(ids))
    assert [data["step"]["log"][0] for _, data in seen if "step" in data] == steps(8)
