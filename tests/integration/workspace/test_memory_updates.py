"""`slackwater.memory` in nodes, and what is remembered of what was said: when, by whom, once (Z2, 959bf1340)."""

from __future__ import annotations

import asyncio
import json
from asyncio import Future
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from langchain_core.messages import HumanMessage
from support.api import Api

from slackwater.errors import NoMemory, RunOver
from slackwater.memory import amemory, prompt
from slackwater.postgres.pool import Database
from slackwater.project.gateway import GatewaySpec
from slackwater.runtime.execution.owning_loop import OwningLoop
from slackwater.runtime.queue.lease import Lease
from slackwater.workspace.llm_models.built import ChatModels
from slackwater.workspace.memory.of_runs import MemoryOfRuns
from slackwater.workspace.memory.updates import MemoryUpdates
from tests.support.model import PROVIDER, PROVIDER_FILE, StubModel, stub_model
from tests.support.proxy import Proxy, proxied
from tests.support.server import fleet_of

GRAPH = """
from typing import Any

from langgraph.graph import END, START, StateGraph
from slackwater import memory as of_user
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    said: list[Any]
    fact: str
    told: str
    known: list[str]


async def talk(state: State) -> State:
    told = await of_user.aprompt()
    if state.get("said"):
        await of_user.aupdate(state["said"])
    return {"told": told}


def note(state: State) -> State:
    if state.get("fact"):
        of_user.remember(state["fact"], category="note")
    assert of_user.prompt() or not of_user.memory()["facts"]
    return {"known": [fact["content"] for fact in of_user.memory()["facts"]]}


graph = StateGraph(State)
graph.add_node("talk", talk)
graph.add_node("note", note)
graph.add_edge(START, "talk")
graph.add_edge("talk", "note")
graph.add_edge("note", END)
remembering = graph.compile()
nested = StateGraph(State).add_node("inner", remembering).add_edge(START, "inner").compile()
"""

SAID = [{"role": "user", "content": "I am Ann, I build bridges"}, {"role": "assistant", "content": "Hello"}]
PROPOSED = json.dumps(
    {
        "user": {"workContext": {"summary": "Builds bridges.", "shouldUpdate": True}},
        "newFacts": [{"content": "Is called Ann", "category": "context", "confidence": 0.9}],
    }
)
_WAITING = "select *, due_at - created_at as after from slackwater.memory_updates order by thread_id"
_NOW = (
    "update slackwater.memory_updates set due_at = now(), claimed_until = claimed_until - interval '1 hour'"
)


def project(folder: Path, model: StubModel, **memory: Any) -> Path:
    folder.mkdir()
    (folder / "remembering_graph.py").write_text(GRAPH)
    (folder / PROVIDER_FILE).write_text(PROVIDER)
    args = {"base_url": model.url}
    content = {
        "dependencies": ["."],
        "graphs": {name: f"./remembering_graph.py:{name}" for name in ("remembering", "nested")},
        "gateway": {"models": [{"name": "fast", "model": "perplexity:stub", "args": args}], "memory": memory},
    }
    (folder / "langgraph.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
async def model() -> AsyncIterator[StubModel]:
    async with stub_model() as model:
        yield model


async def run(client: httpx.AsyncClient, url: str = "", thread: str | None = None, **input_: Any) -> Any:
    """A run; its values, and its thread."""
    if thread is None:
        thread = (await client.post(f"{url}/threads", json={})).json()["thread_id"]
    body = {"assistant_id": "remembering", "input": input_}
    answer = await client.post(f"{url}/threads/{thread}/runs/wait", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json(), thread


async def facts_of(client: httpx.AsyncClient, url: str = "") -> list[str]:
    return [fact["content"] for fact in (await client.get(f"{url}/api/memory")).json()["facts"]]


async def test_what_is_said_is_remembered_after_a_while_and_once(
    serve: Callable[..., Any],
    database_uri: str,
    model: StubModel,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(NoMemory, match="in a node or a tool"):
        prompt()
    with pytest.raises(NoMemory):
        await amemory()
    folder = project(tmp_path / "project", model, debounce_seconds=300)
    with proxied(database_uri) as way:
        async with serve(gateway=True, names=("alice", "bob"), project=folder, database_uri=way.uri) as api:
            caplog.set_level("INFO", "slackwater")
            await remembers(api, model, caplog)
            await remembers_once(api, model, way)


async def remembers_once(api: Api, model: StubModel, way: Proxy) -> None:
    """Whose answer is lost is carried out again: by the node, which waits for it, or not at all where it was the end."""
    alice, before = api.client("alice"), len(model.asked)
    facts = await facts_of(alice)
    way.lose_answers("with guard as")
    values, _ = await run(alice, fact="Owns a boat")
    assert (values["known"], way.lost) == ([*facts, "Owns a boat"], 1)
    way.lose_answers("insert into slackwater.memory_updates")
    await run(alice, said=SAID)
    assert (len(await api.database.fetch(_WAITING)), way.lost) == (1, 2)
    model.says(json.dumps({"newFacts": [{"content": "Sails", "category": "context", "confidence": 0.9}]}))
    await api.database.execute(_NOW)
    way.lose_answers("ended as (delete from slackwater.memory_updates")
    await api.services.runtime.sweep()
    await api.services.runtime.outbox.sent(10)
    assert (await api.database.fetch(_WAITING), way.lost) == ([], 3)
    assert await facts_of(alice) == [*facts, "Owns a boat", "Sails"]
    assert len(model.asked) == before + 1


async def remembers(api: Api, model: StubModel, caplog: pytest.LogCaptureFixture) -> None:
    alice, bob, database = api.client("alice"), api.client("bob"), api.database
    runtime = api.services.runtime

    # Debounce: what is said again on the thread takes the place of what waits, and puts it off, but not for ever
    values, thread = await run(alice, said=SAID[:1])
    assert (values["told"], values["known"]) == ("", [])
    (first,) = await database.fetch(_WAITING)
    await run(alice, thread=thread, said=SAID)
    (row,) = await database.fetch(_WAITING)
    assert (row["owner"], str(row["thread_id"]), row["messages"]) == ("alice", thread, SAID)
    assert first["due_at"] < row["due_at"]
    assert first["created_at"] == row["created_at"]
    await database.execute("update slackwater.memory_updates set created_at = now() - interval '1 hour'")
    await run(alice, thread=thread, said=SAID)
    (row,) = await database.fetch(_WAITING)
    assert row["after"].total_seconds() == 3000
    # Nothing is asked before it is due; of what says nothing there is no row
    await database.execute("update slackwater.memory_updates set due_at = now() + interval '1 hour'")
    await run(alice, said=[{"role": "assistant", "content": "Hello"}])
    await runtime.sweep()
    await runtime.outbox.sent(5)
    assert model.asked == []

    # WHEN this process is about to be frozen while a model thinks, THEN it is anybody's at once
    model.says(None)
    await database.execute(_NOW)
    await runtime.sweep()
    await model.until_asked(1)
    assert [row["attempts"] for row in await database.fetch(_WAITING)] == [1]
    await runtime.outbox.sent(0.2)
    (row,) = await database.fetch(_WAITING)
    assert (row["attempts"], row["claimed_until"]) == (0, None)

    # WHEN it is due and a model thinks about it, and its claim is taken over by another, who asks, too
    late, answer = Future[str](), Future[str]()
    model.says(late, answer)
    await database.execute(_NOW)
    await runtime.sweep()
    await model.until_asked(2)
    assert "User: I am Ann, I build bridges\n\nAssistant: Hello" in model.asked[1]["messages"][-1]["content"]
    await database.execute(_NOW)
    await runtime.sweep()
    await model.until_asked(3)
    # AND the first answer comes all the same, THEN it changes nothing
    late.set_result(PROPOSED)
    async with asyncio.timeout(10):
        while not (
            waiting := [line for line in caplog.records if line.msg == "an update is another's by now"]
        ):
            await asyncio.sleep(0.01)
    assert len(waiting) == 1
    assert await facts_of(alice) == []
    # WHEN the user edits meanwhile, THEN the second answer leaves it, and everything is there once
    (await alice.post("/api/memory/facts", json={"content": "By hand"})).raise_for_status()
    answer.set_result(PROPOSED)
    await runtime.outbox.sent(10)
    assert await database.fetch(_WAITING) == []
    assert await facts_of(alice) == ["By hand", "Is called Ann"]
    memory = (await alice.get("/api/memory")).json()
    assert memory["user"]["workContext"]["summary"] == "Builds bridges."
    assert memory["facts"][1]["source"] == thread
    assert await facts_of(bob) == []
    # AND what both cost is counted for the owner
    used = (await alice.get(f"/api/threads/{thread}/token-usage")).json()
    assert (used["total_tokens"], used["total_runs"]) == (36, 0)
    (booked,) = await database.fetch("select distinct caller from slackwater.token_usage")
    assert booked["caller"] == "memory"

    # Nodes are told, and remember by themselves, each thing once
    values, _ = await run(alice, fact="Likes tea")
    assert values["told"].startswith("Work: Builds bridges.\n- [context] Is called Ann")
    values, _ = await run(alice, fact="likes  tea.")
    assert values["known"] == ["By hand", "Is called Ann", "Likes tea"]

    # I7: whoever a request says that it is, its nodes have the caller's memory, in subgraphs and threads of a pool, too
    body = {"assistant_id": "nested", "input": {"fact": "Is Bob"}, "context": {"user_id": "alice"}}
    answer = await bob.post(
        f"/api/threads/{uuid4()}/runs/wait", json={**body, "config": {"configurable": {}}}
    )
    assert (answer.json()["told"], answer.json()["known"]) == ("", ["Is Bob"])
    assert (await facts_of(bob), "Is Bob" in await facts_of(alice)) == (["Is Bob"], False)

    # Of a run that goes on elsewhere, or is over, nothing is written, and nothing is read
    gone = Lease(uuid4(), UUID(thread), 7, "nobody", 0.0)
    left = MemoryOfRuns(database, lambda: api.services.graphs.gateway)
    for_node = left.of("alice", UUID(thread), gone, OwningLoop())
    with pytest.raises(RunOver):
        await for_node.update([HumanMessage("Forget me")])
    with pytest.raises(RunOver):
        await for_node.remember("Never", "note", 1.0)
    gone.over = True
    with pytest.raises(RunOver):
        await for_node.prompt()
    assert await database.fetch(_WAITING) == []
    assert "Never" not in await facts_of(alice)

    # Where nothing is remembered any more, what waits is forgotten at last
    await run(alice, said=SAID)
    off = MemoryUpdates(database, GatewaySpec, ChatModels())
    for days, kept in ((6, 1), (8, 0)):
        await database.execute(
            "update slackwater.memory_updates set created_at = now() - make_interval(days => %s)", [days]
        )
        await off.sweep()
        assert len(await database.fetch(_WAITING)) == kept

    # What a model makes of it may be of no use: it is put off, and given up in the end
    model.says(500, "I would rather not.", *[500] * 4)
    await run(alice, said=SAID)
    for attempt in range(1, 5):
        await database.execute(_NOW)
        await runtime.sweep()
        await runtime.outbox.sent(10)
        (row,) = await database.fetch(_WAITING)
        assert (row["attempts"], row["claimed_until"]) == (attempt, None)
        assert ("JSON object" in row["trouble"]) == (attempt == 2)
    await database.execute(_NOW)
    await runtime.sweep()
    await runtime.outbox.sent(10)
    assert await database.fetch(_WAITING) == []
    assert await facts_of(alice) == ["By hand", "Is called Ann", "Likes tea"]


async def test_an_update_survives_the_processes_that_make_it(
    database_uri: str, database: Database, model: StubModel, tmp_path: Path
) -> None:
    """SIGTERM while a model is asked hands the claim back at once; SIGKILL leaves it to its lease; then it is made once."""
    folder = project(tmp_path / "project", model, debounce_seconds=1)
    async with (
        fleet_of(database_uri, tmp_path, folder, {"SLACKWATER_GATEWAY": "true"}) as fleet,
        httpx.AsyncClient(timeout=60) as client,
    ):
        (server,) = await fleet.start()
        model.says(None, None, PROPOSED)
        await run(client, server.url, said=SAID)
        await model.until_asked(1)  # after its second, by nobody's wish
        killed = fleet.launch()
        server.sigterm()
        assert await server.wait() == 0
        await killed.until_ready()
        await model.until_asked(2)
        assert [row["attempts"] for row in await database.fetch(_WAITING)] == [1]
        killed.sigkill()
        await killed.wait()
        (row,) = await database.fetch(_WAITING)
        assert row["claimed_until"] is not None
        (last,) = await fleet.start()
        assert await facts_of(client, last.url) == []
        await database.execute(_NOW)
        async with asyncio.timeout(30):
            while await database.fetch(_WAITING):
                await asyncio.sleep(0.02)
        assert await facts_of(client, last.url) == ["Is called Ann"]
        assert len(model.asked) == 3
    assert fleet.complaints == []
