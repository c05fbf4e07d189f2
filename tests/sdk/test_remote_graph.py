"""`RemoteGraph`, unmodified: a served graph does what the same graph does here, and as a node of another one, too."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.pregel.remote import RemoteException, RemoteGraph
from langgraph.types import Command
from langgraph_sdk import get_client, get_sync_client

from tests.conftest import Databases
from tests.drills.drill import PROJECT, Drill
from tests.support.balancer import Balancer
from tests.support.effects import repeated, started
from tests.support.server import Fleet, fleet_of

pytestmark = [
    pytest.mark.drill,
    pytest.mark.filterwarnings("ignore:Request failed, attempting reconnect:UserWarning"),
]

GRAPHS = Path(__file__).parents[1] / "graphs"
CALLER = Path(__file__).parent / "caller"

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{32}\b")


def local(name: str) -> Any:
    """The graph as it is without a server."""
    sys.path.insert(0, str(GRAPHS))
    try:
        import graphs
    finally:
        sys.path.remove(str(GRAPHS))
    graph = getattr(graphs, name).copy()
    graph.checkpointer = InMemorySaver()
    return graph


def thread() -> Any:
    return {"configurable": {"thread_id": str(uuid4())}}


def comparable(value: Any) -> str:
    """As text, without ids and types that are lost on the way."""
    text = orjson.dumps(value, default=_plain, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS).decode()
    return _ID.sub("<id>", text)


def _plain(value: Any) -> Any:
    if hasattr(value, "id") and hasattr(value, "value"):
        return {"id": value.id, "value": value.value}
    return str(value)


Remote = Callable[[str], RemoteGraph]


@pytest.fixture
async def remote(database_uri: str, tmp_path: Path) -> AsyncIterator[Remote]:
    async with fleet_of(database_uri, tmp_path, GRAPHS) as fleet:
        (server,) = await fleet.start()
        async with get_client(url=server.url, api_key=None) as client:
            with get_sync_client(url=server.url, api_key=None) as other:
                yield lambda name: RemoteGraph(name, client=client, sync_client=other)


async def test_a_served_graph_is_a_graph(remote: Remote) -> None:

    # Both clients of it: the one that waits in a thread, and the other
    async def sync(call: Any, *given: Any, **options: Any) -> Any:
        return await asyncio.to_thread(call, *given, **options)

    # Drawing
    for name, xray in (("steps", False), ("subgraph", True)):
        drawn, wanted = await remote(name).aget_graph(xray=xray), local(name).get_graph(xray=xray)
        assert set(drawn.nodes) == set(wanted.nodes)
        assert {(e.source, e.target, e.conditional) for e in drawn.edges} == {
            (e.source, e.target, e.conditional) for e in wanted.edges
        }
        assert set((await sync(remote(name).get_graph, xray=xray)).nodes) == set(wanted.nodes)

    # Streaming, in one mode and in several, with what is inside and without
    given = {"n": 2}
    for options in (
        {},
        {"stream_mode": "values"},
        {"stream_mode": ["updates", "custom"]},
        {"stream_mode": ["values"], "version": "v2"},
    ):
        wanted = [part async for part in local("steps").astream(given, thread(), **options)]
        got = [_tuple(part) async for part in remote("steps").astream(given, thread(), **options)]
        assert comparable(got) == comparable(wanted), options
        got = await sync(
            lambda options=options: [_tuple(p) for p in remote("steps").stream(given, thread(), **options)]
        )
        assert comparable(got) == comparable(wanted), options
    for options in ({"stream_mode": "updates"}, {"stream_mode": ["updates", "custom"]}):
        wanted = [
            p async for p in local("subgraph").astream({"text": "a"}, thread(), subgraphs=True, **options)
        ]
        got = [
            p async for p in remote("subgraph").astream({"text": "a"}, thread(), subgraphs=True, **options)
        ]
        assert comparable(got) == comparable(wanted), options
    said = {"messages": [{"role": "user", "content": "one two"}]}
    tokens = [message async for message in remote("chat").astream(said, thread(), stream_mode="messages")]
    assert "".join(message["content"] for message, _ in tokens) == "You said: one two"
    assert tokens[0][1]["langgraph_node"] == "model"
    debug = [
        part
        async for part in remote("steps").astream(
            given, thread(), stream_mode=["tasks", "checkpoints", "debug"]
        )
    ]
    assert {part.event for part in debug} == {"tasks", "checkpoints", "debug"}

    # Calling, and what there is afterwards
    config = thread()
    graph, same = remote("steps"), local("steps")
    assert await graph.ainvoke(given, config) == await same.ainvoke(given, config)
    assert (await sync(graph.invoke, {"n": 1}))["log"] == ["step-1"]
    state, wanted = await graph.aget_state(config), await same.aget_state(config)
    assert (state.values, state.next, state.tasks) == (wanted.values, wanted.next, wanted.tasks)
    assert (await sync(graph.get_state, config)).values == state.values
    assert state.metadata is not None
    assert state.metadata["step"] == wanted.metadata["step"]
    # It has the same past
    history = [s async for s in graph.aget_state_history(config)]
    past = [s async for s in same.aget_state_history(config)]
    assert [(s.values, s.next) for s in history] == [(s.values, s.next) for s in past]
    assert [s.values for s in await sync(lambda: list(graph.get_state_history(config, limit=2)))] == [
        s.values for s in past[:2]
    ]
    before = [s async for s in graph.aget_state_history(config, before=history[1].config)]
    assert [s.values for s in before] == [s.values for s in past[2:]]
    assert (await graph.aget_state(history[2].config)).values == past[2].values
    # which can be changed, and branches off
    changed = await graph.aupdate_state(config, {"log": ["edited"]}, as_node="step")
    assert (await sync(graph.get_state, changed)).values["log"][-1] == "edited"
    forked = await sync(graph.update_state, history[2].config, {"i": 7}, as_node="step")
    assert forked["configurable"]["checkpoint_id"] != changed["configurable"]["checkpoint_id"]
    assert (await graph.aget_state(forked)).values["i"] == 7

    # Interrupts, and what is said to them
    hitl, config = remote("hitl"), thread()
    asked = await hitl.ainvoke({"text": "x", "questions": 2}, config)
    assert [i["value"] for i in asked["__interrupt__"]] == [{"question": "approve x?", "n": 0}]
    state = await hitl.aget_state(config)
    assert state.next == ("ask",)
    assert [i.value for i in state.interrupts] == [{"question": "approve x?", "n": 0}]
    again = [part async for part in hitl.astream(Command(resume="yes"), config, stream_mode="updates")]
    assert [i["value"]["n"] for part in again for i in part["__interrupt__"]] == [1]
    assert (await sync(hitl.invoke, Command(resume="no"), config))["answers"] == ["yes", "no"]
    # in a subgraph
    config = thread()
    nested = remote("subgraph")
    await nested.ainvoke({"text": "x", "ask": True}, config)
    state = await nested.aget_state(config, subgraphs=True)
    assert state.tasks[0].state is not None
    assert state.tasks[0].state.next == ("inner_two",)
    assert (await nested.ainvoke(Command(resume=7), config))["answer"] == 7
    # and breakpoints
    config = thread()
    await graph.ainvoke({"n": 1}, config, interrupt_before=["finish"])
    assert (await graph.aget_state(config)).next == ("finish",)
    assert (await graph.ainvoke(None, config))["done"] is True

    # What fails fails here
    with pytest.raises(RemoteException, match="boom: x"):
        await remote("fail").ainvoke({"text": "x"}, thread())


def _tuple(part: Any) -> Any:
    """A stream part as LangGraph gives it: mode and data."""
    return tuple(part)[:2] if isinstance(part, tuple) and hasattr(part, "event") else part


@pytest.fixture
async def other(databases: Databases, template: str, drill: Drill, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Another deployment, with a database of its own: a graph that calls back its own would wait for itself."""
    uri, folder = databases.create(template), tmp_path / "other"
    folder.mkdir()
    async with fleet_of(uri, folder, PROJECT, {"DRILL_EFFECTS_URI": drill.effects.uri}) as fleet:
        yield fleet
        await fleet.close()
        assert not fleet.complaints, "\n".join(fleet.complaints)
    databases.drop(uri)


async def test_a_run_with_a_node_elsewhere_outlives_either_process(drill: Drill, other: Fleet) -> None:
    there, next_there = await other.start(2)
    async with Balancer([there]).serve() as remote:
        # The node that waits ends within the grace period, however long the rest of the other one's steps takes.
        env = {"REMOTE_URL": remote.url, "SLACKWATER_GRACE_SECONDS": "10"}
        here, next_here = await drill.fleet.start(2, project=CALLER, env=env)
        async with Balancer([here]).serve() as balancer, get_client(url=balancer.url, api_key=None) as client:
            thread_id = (await client.threads.create())["thread_id"]
            parts: list[tuple[str, Any]] = []

            async def read() -> None:
                given = {"n": 12, "sleep": 0.25}
                options: Any = {"stream_mode": ["updates", "custom"], "stream_subgraphs": True}
                async for part in client.runs.stream(thread_id, "calling", input=given, **options):
                    parts.append((part.event, part.data))  # noqa: PERF401 - they are looked at meanwhile

            # GIVEN a run that waits for a node of another deployment
            reading = asyncio.create_task(read())
            await drill.until(lambda: len(parts) > 3, what="events of the remote graph")
            # WHEN the process that works on the node is stopped, and then the one that waits for it
            remote.replicas.append(next_there)
            balancer.replicas.append(next_here)
            await drill.stop(there)
            await drill.until(lambda: len(parts) > 6, what="its next process")
            await drill.stop(here)
            async with asyncio.timeout(30):
                await reading
            # THEN each step was taken once, on either side, and the client has read them all
            (outcome,) = [run["outcome"] for run in there.report()["runs"]]
            assert outcome == "drained"
            assert [run["outcome"] for run in here.report()["runs"]] == ["drained"]
            assert (await client.threads.get(thread_id))["values"]["seen"] == 12
            steps_read = [data for event, data in parts if event.startswith("updates|remote:")]
            assert [update["step"]["i"] for update in steps_read] == list(range(1, 13))
            own = [next(iter(data)) for event, data in parts if event == "updates"]
            assert own == ["before", "remote", "after"]
            (run,) = await client.runs.list(thread_id)
            assert not repeated(started(drill.effects.of(run["run_id"])))
            assert run["status"] == "success"

            # GIVEN a node elsewhere that asks
            asked: Any = await client.runs.wait(thread_id, "calling_asking", input={"n": 1})
            # THEN it is asked here
            assert [i["value"] for i in asked["__interrupt__"]] == [{"question": "first?"}]
            assert (await client.threads.get(thread_id))["status"] == "interrupted"
            state = await client.threads.get_state(thread_id)
            assert (state["next"], len(state["interrupts"])) == (["remote"], 1)
        # AND there it waits on the thread of the same id, where it can be answered
        async with get_client(url=next_there.url, api_key=None) as distant:
            graph = RemoteGraph("asking", client=distant)
            config: Any = {"configurable": {"thread_id": thread_id}}
            for answer in ("a", "b"):
                told = await graph.ainvoke(Command(resume=answer), config)
            assert "a+b" in told["log"]
