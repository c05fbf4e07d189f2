"""Whose graph it is: in whatever way one is opened, its factory is told by the server who calls, and by nobody else."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from psycopg.types.json import Jsonb
from support.api import Api

from slackwater.api.crons.fire import fire_due
from slackwater.kit.reserved import RUN_KEYS

GRAPHS = """
import json
from pathlib import Path
from typing import TypedDict

from langgraph.graph import START, StateGraph

SEEN = Path(__file__).with_name("seen.jsonl")


class State(TypedDict, total=False):
    text: str


async def node(state):
    return {"text": state.get("text", "")}


def made(config):
    with SEEN.open("a") as file:
        file.write(json.dumps(config, default=str) + "\\n")
    return StateGraph(State).add_node("node", node).add_edge(START, "node").compile()
"""

POISON = {
    **dict.fromkeys(RUN_KEYS, "poison"),
    "langgraph_auth_user": {"identity": "poison"},
    "langgraph_auth_user_id": "poison",
    "langgraph_auth_permissions": ["poison"],
    "langgraph_auth_anything": "poison",
    "__pregel_send": "poison",
}
KEPT = {"flavour": "sour"}
INPUT = {"text": "a"}
UPDATE = {"values": {"text": "b"}, "as_node": "node"}


class World:
    """Alice's assistant and thread, and the configs that their graph was opened with."""

    def __init__(self, api: Api, folder: Path, http: httpx.AsyncClient) -> None:
        self.api, self.http = api, http
        self._seen = folder / "seen.jsonl"
        self.assistant = self.thread = ""

    async def poison(self) -> None:
        """In the rows, as an older release, or somebody by hand, may have left them."""
        await self.api.database.execute(
            "update slackwater.assistants set config = config || jsonb_build_object('configurable', %s::jsonb)",
            [Jsonb({**POISON, **KEPT})],
        )
        await self.api.database.execute(
            "update slackwater.threads set config = jsonb_build_object('configurable', %s::jsonb)",
            [Jsonb({**POISON, **KEPT})],
        )

    async def seen(self) -> list[dict[str, Any]]:
        lines = self._seen.read_text().splitlines() if self._seen.exists() else []
        self._seen.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = await self.http.request(method, path.format(t=self.thread, a=self.assistant), json=body)
        assert answer.status_code in (200, 202, 204), answer.text
        return answer.json() if answer.content else None


@pytest.fixture
async def world(serve: Any, tmp_path: Path) -> AsyncIterator[World]:
    (tmp_path / "graphs.py").write_text(GRAPHS)
    (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": {"made": "./graphs.py:made"}}))
    async with serve(names=("alice",), project=tmp_path) as api:
        world = World(api, tmp_path, api.client("alice"))
        assistant = {"graph_id": "made", "config": {"configurable": {**POISON, **KEPT}}}
        world.assistant = (await world.ask("POST", "/assistants", assistant))["assistant_id"]
        world.thread = (await world.ask("POST", "/threads", {}))["thread_id"]
        await world.ask("POST", "/threads/{t}/runs/wait", {"assistant_id": world.assistant, "input": INPUT})
        await world.poison()
        await world.seen()
        yield world


Way = Callable[[World], Awaitable[Any]]


def asks(method: str, path: str, body: Any = None) -> Way:
    return lambda world: world.ask(method, path, _filled(body, world))


def _filled(body: Any, world: World) -> Any:
    return json.loads(json.dumps(body).replace("{a}", world.assistant)) if body is not None else None


async def cancels(world: World) -> None:
    run = {"assistant_id": world.assistant, "input": INPUT, "after_seconds": 3600}
    run_id = (await world.ask("POST", "/threads/{t}/runs", run))["run_id"]
    await world.poison()
    await world.ask("POST", f"/threads/{{t}}/runs/{run_id}/cancel")


async def starts_by_command(world: World) -> None:
    params = {"assistant_id": world.assistant, "input": INPUT, "config": {"configurable": POISON}}
    command = {"id": 1, "method": "run.start", "params": {**params, "config": {"configurable": forged()}}}
    told = await world.ask("POST", "/threads/{t}/commands", command)
    await world.ask("GET", f"/threads/{{t}}/runs/{told['result']['run_id']}/join")


async def starts_by_cron(world: World) -> None:
    cron = {"assistant_id": world.assistant, "schedule": "0 5 1 1 *", "input": INPUT}
    await world.ask("POST", "/threads/{t}/runs/crons", cron)
    await world.api.database.execute("update slackwater.crons set next_run_date = clock_timestamp()")
    assert await fire_due(world.api.services) == 1
    run = (await world.ask("GET", "/threads/{t}/runs"))[0]
    await world.ask("GET", f"/threads/{{t}}/runs/{run['run_id']}/join")


async def starts_in_a_batch(world: World) -> None:
    bodies = [{"assistant_id": world.assistant, "input": INPUT, "on_completion": "keep"}] * 2
    for run in await world.ask("POST", "/runs/batch", bodies):
        await world.http.get(f"/threads/{run['thread_id']}/runs/{run['run_id']}/join")


def forged() -> dict[str, Any]:
    """All that a request may try to say, but for a thread's id, which is refused."""
    return {**{key: value for key, value in POISON.items() if key != "thread_id"}, **KEPT}


def calls(method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


RUN = {"assistant_id": "{a}", "input": INPUT}
MESSAGE = {"message": {"messageId": "m", "role": "user", "parts": [{"kind": "data", "data": INPUT}]}}

WAYS: dict[str, Way] = {
    "a run": asks("POST", "/threads/{t}/runs/wait", RUN),
    "a run that says who it is": asks(
        "POST", "/threads/{t}/runs/wait", {**RUN, "config": {"configurable": forged()}}
    ),
    "a run with a context": asks("POST", "/threads/{t}/runs/wait", {**RUN, "context": forged()}),
    "a run without a thread": asks("POST", "/runs/wait", RUN),
    "a batch": starts_in_a_batch,
    "a cancelled run": cancels,
    "a command": starts_by_command,
    "a cron": starts_by_cron,
    "a state": asks("GET", "/threads/{t}/state"),
    "a history": asks("POST", "/threads/{t}/history", {"limit": 10}),
    "an update": asks("POST", "/threads/{t}/state", UPDATE),
    "a copy": asks("POST", "/threads/{t}/copy"),
    "supersteps": asks(
        "POST",
        "/threads",
        {"metadata": {"graph_id": "made"}, "supersteps": [{"updates": [{**UPDATE}]}]},
    ),
    "a drawing": asks("GET", "/assistants/{a}/graph"),
    "schemas": asks("GET", "/assistants/{a}/schemas"),
    "subgraphs": asks("GET", "/assistants/{a}/subgraphs"),
    "the list of tools": asks("POST", "/mcp", calls("tools/list", {})),
    "a tool": asks("POST", "/mcp", calls("tools/call", {"name": "made", "arguments": INPUT})),
    "a card": asks("GET", "/a2a/{a}"),
    "an agent": asks("POST", "/a2a/{a}", calls("message/send", MESSAGE)),
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_factory_is_told_by_the_server_who_calls(world: World, way: str) -> None:
    world.http.headers["accept"] = "application/json, text/event-stream"

    await WAYS[way](world)

    configs = await world.seen()
    assert configs, "no graph was opened"
    for config in configs:
        assert "poison" not in json.dumps(config)
        assert config["configurable"]["user_id"] == "alice"
        assert config["configurable"]["langgraph_auth_user_id"] == "alice"
        assert config["configurable"]["graph_id"] == "made"


@pytest.mark.parametrize("way", ["a run", "a state", "a history", "an update"])
async def test_a_factory_is_told_which_thread_it_is(world: World, way: str) -> None:
    await WAYS[way](world)

    configs = await world.seen()
    assert configs
    for config in configs:
        assert config["configurable"]["thread_id"] == world.thread
        assert config["configurable"]["assistant_id"] == world.assistant


@pytest.mark.parametrize("way", ["a run", "a state", "a copy", "a drawing"])
async def test_what_an_assistant_or_a_thread_was_configured_with_stays(world: World, way: str) -> None:
    """Or the tests above would be content with an empty config."""
    await WAYS[way](world)

    assert flavours(await world.seen()) == {"sour"}


def flavours(configs: Sequence[dict[str, Any]]) -> set[str | None]:
    return {config["configurable"].get("flavour") for config in configs}
