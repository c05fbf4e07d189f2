"""Runs whose nodes start other runs, through a client that was made while the project was imported, and wait for them."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any

from effects import record
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph_sdk import get_client
from typing_extensions import TypedDict

client = get_client()


class StartingState(TypedDict, total=False):
    how: str
    inner: dict[str, Any]
    log: Annotated[list, operator.add]


async def _waited(state: StartingState, config: RunnableConfig) -> list[str]:
    """The log of the run inside. A node that runs again finds the run that it has started, by the key."""
    key = {"Idempotency-Key": f"{config['metadata']['run_id']}:ask"}
    if state.get("how") != "stream":
        return (await client.runs.wait(None, "line", input=state["inner"], headers=key))["log"]
    log: list[str] = []
    parts = client.runs.stream(None, "line", input=state["inner"], stream_mode="values", headers=key)
    async for part in parts:
        if part.event == "values":
            log = part.data["log"]
    return log


def _named(name: str) -> Any:
    def node(state: StartingState, config: RunnableConfig) -> dict:
        record(config, name, "start")
        record(config, name, "done")
        return {"log": [name]}

    return node


async def ask(state: StartingState, config: RunnableConfig) -> dict:
    record(config, "ask", "start")
    log = await _waited(state, config)
    record(config, "ask", "done")
    return {"log": [f"ask: {len(log)}"]}


def sync_ask(state: StartingState, config: RunnableConfig) -> dict:
    record(config, "ask", "start")
    log = asyncio.run(_waited(state, config))
    record(config, "ask", "done")
    return {"log": [f"ask: {len(log)}"]}


def _around(node: Any) -> CompiledStateGraph:
    return (
        StateGraph(StartingState)
        .add_node("before", _named("before"))
        .add_node("ask", node)
        .add_node("after", _named("after"))
        .add_edge(START, "before")
        .add_edge("before", "ask")
        .add_edge("ask", "after")
        .compile()
    )


starting = _around(ask)
sync_starting = _around(sync_ask)
