"""`client.threads.stream()` of the stock SDK, on both of its transports: what it is for, and across a hand-over."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from tests.drills.drill import Drill
from tests.sdk.test_the_client_never_notices import comparable
from tests.support.balancer import Balancer
from tests.support.effects import finished
from tests.support.server import ROOT, ServerProcess, fleet_of

pytestmark = pytest.mark.drill

Transport = Literal["sse", "websocket"]
TRANSPORTS: tuple[Transport, ...] = ("sse", "websocket")

CHANNELS = ["values", "updates", "messages", "tools", "lifecycle", "input", "checkpoints", "tasks", "custom"]

TALK = {"sleep": 0.3, "messages": [{"role": "user", "content": "one two three", "id": "m1"}]}


def client_of(url: str) -> LangGraphClient:
    return get_client(url=url, timeout=60, api_key=None)


@pytest.fixture
async def server(database_uri: str, tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A server with the graphs of all tests."""
    async with fleet_of(database_uri, tmp_path, ROOT / "tests" / "graphs") as fleet:
        (server,) = await fleet.start(tolerated=("Traceback",))  # of a graph that is there to fail
        yield server


async def test_it_runs_streams_is_interrupted_and_goes_on(server: ServerProcess) -> None:
    async with client_of(server.url) as client, asyncio.timeout(60):
        await asyncio.gather(*(_use(client, transport) for transport in TRANSPORTS))


async def _use(client: LangGraphClient, transport: Transport) -> None:
    def stream(graph: str) -> Any:
        return client.threads.stream(assistant_id=graph, transport=transport)

    given = {"messages": [{"role": "user", "content": "hello there"}]}
    # A run: its states, its messages token by token, its output
    async with stream("chat") as thread:
        started = await thread.run.start(input=given)
        states = [state async for state in thread.values]
        assert [message["content"] for message in states[-1]["messages"]] == [
            "hello there",
            "You said: hello there",
        ]
        assert (await thread.output)["messages"][-1]["content"] == "You said: hello there"
        run = await client.runs.get(thread.thread_id, started["run_id"])
        assert run["kwargs"]["config"]["configurable"]["__event_streaming_v2"] is True
    async with stream("chat") as thread:
        await thread.run.start(input=given)
        messages = [message async for message in thread.messages]
        assert [await message.text for message in messages] == ["You said: hello there"]
        assert [token async for token in messages[0].text] == ["You", " said:", " hello", " there"]
    # A question, its answer, and one more run on the same thread
    async with stream("hitl") as thread:
        await thread.run.start(input={"text": "x"})
        assert [state async for state in thread.values][-1] == {"text": "x", "answers": []}
        assert thread.interrupted
        [interrupt] = thread.interrupts
        assert interrupt["value"] == {"question": "approve x?", "n": 0}
        assert await thread.run.respond("yes") == {}
        assert (await thread.output)["result"] == "x:yes"
        assert not thread.interrupts
    # A question inside a subgraph, answered by the input of the next run
    async with stream("asking") as thread:
        await thread.run.start(input={})
        async for _ in thread.values:
            pass
        [interrupt] = thread.interrupts
        assert interrupt["namespace"][0].startswith("child:")
        await thread.run.start(input="yes")
        assert (await thread.output)["trail"][-2:] == ["inner_three", "last"]
    # Subgraphs, and what each of them says
    async with stream("talk") as thread:
        await thread.run.start(input=given)
        handles = [handle async for handle in thread.subgraphs]
        assert [(handle.graph_name, handle.status) for handle in handles] == [("child", "completed")]
        said = [message async for message in handles[0].messages]
        assert [await message.text for message in said] == ["You said: hello there"]
    # What the official server's channels stay silent about
    async with stream("steps") as thread:
        await thread.run.start(input={"n": 2})
        items = [item async for item in thread.interleave_projections(["updates", "tasks", "checkpoints"])]
        assert {channel for channel, _ in items} == {"updates", "tasks", "checkpoints"}
        assert [data["log"] for name, data in items if name == "updates" and "log" in data] == [
            ["step-1"],
            ["step-2"],
        ]
    # A failure
    async with stream("fail") as thread:
        await thread.run.start(input={"text": "a"})
        with pytest.raises(RuntimeError, match="Run errored: boom: a"):
            await thread.output


Told = dict[str, Any]


async def listen(client: LangGraphClient, transport: Transport, graph: str, given: Any) -> list[Told]:
    """Everything that is told of a run."""
    async with client.threads.stream(assistant_id=graph, transport=transport) as thread:
        await thread.run.start(input=given)
        told = [dict(event) async for event in thread.subscribe(CHANNELS)]
        await thread.output
    return told


def sequence(told: list[Told]) -> list[str]:
    """What was told, but for times, and with ids in the order of their appearance."""
    return comparable((e["method"], {**e["params"], "timestamp": None, "seq": e["seq"]}) for e in told)


@pytest.mark.parametrize(
    ("graph", "given", "stock"),
    [("talk", TALK, False), ("deep", {"sleep": 0.22}, True)],
    ids=["ours", "stock"],
)
async def test_a_handed_over_run_reads_like_an_uninterrupted_one(
    drill: Drill, graph: str, given: dict[str, Any], stock: bool
) -> None:
    # A stock server waits at a stop until every connection has closed.
    (first,), (second,) = await asyncio.gather(drill.fleet.start(1, uvicorn=stock), drill.fleet.start(1))
    # GIVEN what is told when nobody stops anything
    async with Balancer([second]).serve() as quiet, client_of(quiet.url) as client:
        heard = await asyncio.gather(*(listen(client, transport, graph, given) for transport in TRANSPORTS))
    wanted = [sequence(told) for told in heard]
    assert wanted[0] == wanted[1]
    # WHEN their process is stopped in the middle of some runs that clients listen to
    async with Balancer([first]).serve() as balancer, client_of(balancer.url) as client:
        listeners = [
            asyncio.create_task(listen(client, transport, graph, given)) for transport in TRANSPORTS * 3
        ]
        # Not those that are active: the first may end before the last has begun.
        begun = len(wanted) + len(listeners)
        await drill.until(lambda: drill.begun(graph) == begun, what="all runs started")
        await asyncio.sleep(0.35)
        balancer.replicas.append(second)
        first.sigterm()
        assert await first.wait(10) == (
            -signal.SIGTERM if stock else 0
        )  # uvicorn raises it again when it is done
        async with asyncio.timeout(40):
            got = await asyncio.gather(*listeners)
    # THEN each has heard the same, under the same numbers, and nothing twice
    assert {run["outcome"] for run in first.report()["runs"]} == {"drained"}
    for told in got:
        assert sequence(told) == wanted[0]
        assert len({event["event_id"] for event in told}) == len(told)


async def test_a_superstep_that_a_kill_has_cut_is_announced_and_nothing_is_lost(drill: Drill) -> None:
    first, second = await drill.fleet.start(2)
    given, thread_id = {"n": 8, "sleep": 0.3}, str(uuid4())
    # GIVEN a run on one process, and who listens to it, in both ways, through another one
    async with client_of(second.url) as client, client_of(first.url) as there, AsyncExitStack() as stack:
        listening = []
        for transport in TRANSPORTS:
            stream = client.threads.stream(thread_id, assistant_id="line", transport=transport)
            listening.append(asyncio.create_task(_events(await stack.enter_async_context(stream))))
        body = {"id": 1, "method": "run.start", "params": {"assistant_id": "line", "input": given}}
        await there.http.post(f"/threads/{thread_id}/commands", json=body)
        await drill.until(lambda: len(finished(drill.effects.after(0))) == 2, what="two nodes")
        # WHEN that process is killed
        await drill.stop(first, "SIGKILL")
        async with asyncio.timeout(40):
            told, also = await asyncio.gather(*listening)
    assert told == also
    # THEN every step is told, and what may have been told before comes after an announcement
    root = [e["params"]["data"] for e in told if e["method"] == "lifecycle"]
    assert [(data["event"], data.get("attempt")) for data in root] == [
        ("running", None),
        ("running", 2),
        ("completed", None),
    ]
    assert [event["seq"] for event in told] == list(range(1, len(told) + 1))
    assert len({event["event_id"] for event in told}) == len(told)
    steps = [
        e["params"]["data"]["log"][0]
        for e in told
        if e["method"] == "updates" and "log" in e["params"]["data"]
    ]
    assert list(dict.fromkeys(steps)) == [f"step-{n}" for n in range(1, 9)]


async def _events(thread: Any) -> list[Told]:
    return [dict(event) async for event in thread.subscribe(CHANNELS)]
