"""Projects with an `auth` of their own, and a provider that users log in with."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.provider import TestProvider, provider_at, provider_process

GRAPHS = """
import asyncio
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph_sdk import get_client
from langgraph_sdk.runtime import ServerRuntime
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    text: str
    seen: dict[str, Any]


def look(state: State, config: RunnableConfig, runtime: Runtime) -> State:
    configurable = config["configurable"]
    user = configurable.get("langgraph_auth_user")
    info = runtime.server_info
    return {
        "seen": {
            "user": None if user is None else dict(user),
            "identity": getattr(user, "identity", None),
            "team": getattr(user, "team", None),
            "id": configurable.get("langgraph_auth_user_id"),
            "user_id": configurable.get("user_id"),
            "permissions": configurable.get("langgraph_auth_permissions"),
            "server_info": info.user.identity if info and info.user else None,
        }
    }


builder = StateGraph(State)
builder.add_node("look", look)
builder.add_edge(START, "look")
builder.add_edge("look", END)
who = builder.compile()


async def nap(state: State) -> State:
    await asyncio.sleep(1.5)
    return {}


async def ask(state: State) -> State:
    found = await get_client().threads.search()
    return {"seen": {"threads": sorted(thread["thread_id"] for thread in found)}}


builder = StateGraph(State)
builder.add_node("ask", ask)
builder.add_edge(START, "ask")
builder.add_edge("ask", END)
asks = builder.compile()

builder = StateGraph(State)
builder.add_node("nap", nap)
builder.add_node("look", look)
builder.add_edge(START, "nap")
builder.add_edge("nap", "look")
builder.add_edge("look", END)
slow = builder.compile()


def made(runtime: ServerRuntime):
    def show(state: State) -> State:
        user = runtime.user
        return {"seen": {"user": None if user is None else user.identity, "access": runtime.access_context}}

    graph = StateGraph(State)
    graph.add_node("show", show)
    graph.add_edge(START, "show")
    graph.add_edge("show", END)
    return graph
"""

AUTH = """
from langgraph_sdk import Auth

auth = Auth()


@auth.authenticate
async def authenticate(authorization):
    scheme, _, name = (authorization or "").partition(" ")
    if scheme != "Bearer" or not name.isalpha():
        raise Auth.exceptions.HTTPException(401, "who are you?", {"WWW-Authenticate": "Bearer"})
    return {"identity": name, "team": f"team of {name}", "permissions": ["read", name]}
"""
"""Whoever says a name is believed. Handlers follow."""


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., Path]:
    """Writes a project whose `auth.py` is AUTH, if not something else, with these handlers."""

    def write(handlers: str = "", source: str = AUTH, **config: Any) -> Path:
        folder = tmp_path / "project"
        folder.mkdir()
        (folder / "graphs.py").write_text(GRAPHS)
        (folder / "auth.py").write_text(f"{source}\n{handlers}")
        graphs = {name: f"./graphs.py:{name}" for name in ("who", "made", "slow", "asks")}
        content = {
            "graphs": graphs,
            "auth": {"path": "./auth.py:auth"},
            **config,
        }
        (folder / "langgraph.json").write_text(json.dumps(content))
        return folder

    return write


@pytest.fixture(scope="session")
def issuer() -> Iterator[str]:
    with provider_process() as issuer:
        yield issuer


@pytest.fixture
async def at(issuer: str) -> AsyncIterator[TestProvider]:
    """The provider."""
    async with provider_at(issuer) as one:
        yield one
