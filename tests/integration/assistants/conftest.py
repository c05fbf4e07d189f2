"""The routes over a real database, without the rest of the process."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from slackwater.api.assistants import service
from slackwater.api.assistants.routes import router
from slackwater.graphs.registry import Graphs
from slackwater.identity.principal import LOCAL_OWNER, Principal
from slackwater.postgres.pool import Database
from slackwater.settings import Settings
from slackwater.web.bodies import body_quota
from slackwater.web.http import install_error_handlers

GRAPHS = '''
import operator
from typing import Annotated
from typing_extensions import TypedDict
from langgraph.graph import END, START, StateGraph

class State(TypedDict, total=False):
    text: str
    trail: Annotated[list, operator.add]

class Context(TypedDict, total=False):
    prefix: str

async def node(state):
    return {"trail": ["node"]}

def more(state):
    return END

child = StateGraph(State).add_node("leaf", node).add_edge(START, "leaf").add_edge("leaf", END).compile()
flow = (
    StateGraph(State, context_schema=Context)
    .add_node("node", node)
    .add_node("child", child)
    .add_edge(START, "node")
    .add_conditional_edges("node", more, ["child", END])
    .add_edge("child", END)
    .compile(name="Flow")
)

async def factory(config):
    """A node whose name comes from the assistant's config."""
    flavor = config.get("configurable", {}).get("flavor", "plain")
    return StateGraph(State).add_node(flavor, node).add_edge(START, flavor)
'''


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, Any]], Graphs]:
    """Loads a project that has these graphs."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "graphs.py").write_text(GRAPHS)

    def load(graphs: Mapping[str, Any]) -> Graphs:
        (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": graphs}))
        return Graphs.load(tmp_path)

    return load


@pytest.fixture
def replica(database: Database) -> Callable[[Graphs], Any]:
    """What a started process that has these graphs offers to its routes."""
    return lambda graphs: SimpleNamespace(
        settings=Settings.load(), database=database, graphs=graphs, bodies=body_quota(1_000_000)
    )


@pytest.fixture
async def running(load: Callable[..., Graphs], replica: Callable[[Graphs], Any]) -> Any:
    described = {"path": "./graphs.py:flow", "description": "Flows."}
    running = replica(load({"flow": described, "factory": "./graphs.py:factory"}))
    await service.register(running)
    return running


@pytest.fixture
async def client(running: Any) -> AsyncIterator[Callable[..., httpx.AsyncClient]]:
    """Makes a client that is a given owner."""
    app = FastAPI()
    install_error_handlers(app)
    app.include_router(router)
    async with AsyncExitStack() as stack:

        def make(owner: str = LOCAL_OWNER) -> httpx.AsyncClient:
            async def with_services(scope: Any, receive: Any, send: Any) -> None:
                await app(
                    {**scope, "state": {"services": running}, "principal": Principal(owner)}, receive, send
                )

            made = httpx.AsyncClient(transport=httpx.ASGITransport(with_services), base_url="http://test")
            stack.push_async_callback(made.aclose)
            return made

        yield make


@pytest.fixture
def http(client: Callable[..., httpx.AsyncClient]) -> httpx.AsyncClient:
    return client()
