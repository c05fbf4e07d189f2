"""A graph with nodes that other servers work on."""

from __future__ import annotations

import os

from effects import record
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel.remote import RemoteGraph
from typing_extensions import TypedDict

URL = os.environ["REMOTE_URL"]


class State(TypedDict, total=False):
    n: int
    sleep: float
    log: list
    seen: int


async def before(state: State, config: RunnableConfig) -> dict:
    record(config, "before", "start")
    return {"seen": 0}


async def after(state: State, config: RunnableConfig) -> dict:
    record(config, "after", "start")
    return {"seen": len(state["log"])}


def around(name: str) -> CompiledStateGraph:
    """`before`, the remote graph, `after`."""
    return (
        StateGraph(State)
        .add_node("before", before)
        .add_node("remote", RemoteGraph(name, url=URL, api_key=None))
        .add_node("after", after)
        .add_edge(START, "before")
        .add_edge("before", "remote")
        .add_edge("remote", "after")
        .compile()
    )


calling = around("line")
asking = around("asking")
