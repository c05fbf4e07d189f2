"""Factories whose beginning and end a test can hold."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

from helm import helm, ignore_cancellation
from langchain_core.runnables import RunnableConfig
from langgraph.graph.state import CompiledStateGraph
from voyage import State, chain

whose: ContextVar[str] = ContextVar("whose", default="nobody")


async def tells(state: State, config: RunnableConfig) -> dict:
    await helm.begin("tells", config)
    helm.done("tells", config)
    return {"log": [whose.get()]}


@asynccontextmanager
async def held(config: RunnableConfig) -> AsyncIterator[CompiledStateGraph]:
    """Sets a context variable for its nodes; `close` is where its end can be held."""
    token = whose.set("the factory's")
    yield chain("tells", tells=tells)
    await helm.begin("close", config)
    whose.reset(token)
    helm.done("close", config)


async def slow(config: RunnableConfig) -> CompiledStateGraph:
    """Does not let itself be cancelled while it makes its graph, if a test holds `ignores`."""
    if "ignores" in helm.hooks:
        await ignore_cancellation(config)
    return chain("a")
