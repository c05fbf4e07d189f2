"""Graphs that say all that they are told: a leak into a run is a leak into its state."""

from __future__ import annotations

import asyncio
import json
import operator
from typing import Annotated, Any

from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.runnables import RunnableConfig
from langgraph.config import get_store, get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.runtime import Runtime
from langgraph.types import interrupt
from langgraph_sdk import get_client
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    text: str
    messages: Annotated[list[AnyMessage], add_messages]
    trail: Annotated[list[str], operator.add]
    told: str
    nap: float
    ask: bool
    look: bool
    """Into all that the run can reach; not on a thread that others see, too."""


async def begin(state: State, config: RunnableConfig, runtime: Runtime) -> dict[str, Any]:
    get_stream_writer()({"custom": state.get("text", "")})
    told: dict[str, Any] = {}
    if state.get("look"):
        store, info = get_store(), runtime.server_info
        items = await store.asearch(("notes",), limit=20)
        # Not their values: of these each has what the one before was told.
        threads = await get_client().threads.search(limit=5, select=["thread_id", "metadata", "status"])
        told = {
            "configurable": config["configurable"],
            "metadata": config.get("metadata"),
            "context": runtime.context,
            "user": info.user.identity if info and info.user else None,
            "items": [[item.namespace, item.key, item.value] for item in items],
            "spaces": await store.alist_namespaces(limit=50),
            "threads": threads,
        }
        run = str(config["configurable"].get("run_id"))
        await store.aput(("notes", "of a run"), run, {"text": state.get("text", "")})
    return {"trail": ["begin"], "told": json.dumps(told, default=str)}


async def nap(state: State) -> dict[str, Any]:
    await asyncio.sleep(state.get("nap") or 0)
    return {"trail": ["nap"]}


async def end(state: State) -> dict[str, Any]:
    answer = interrupt({"asks": state.get("text", "")}) if state.get("ask") else ""
    text = state.get("text") or (str(state["messages"][-1].content) if state.get("messages") else "")
    return {"trail": ["end", str(answer)], "messages": [AIMessage(f"said {text}")], "ask": False}


def line(middle: Any = nap) -> StateGraph:
    graph = StateGraph(State)
    graph.add_node("begin", begin)
    graph.add_node("nap", middle)
    graph.add_node("end", end)
    graph.add_edge(START, "begin")
    graph.add_edge("begin", "nap")
    graph.add_edge("nap", "end")
    graph.add_edge("end", END)
    return graph


tell = line().compile()

_inner = StateGraph(State)
_inner.add_node("deep", nap)
_inner.add_edge(START, "deep")
_inner.add_edge("deep", END)
nest = line(_inner.compile()).compile()
"""With a subgraph, whose checkpoints have a namespace."""


def made(config: RunnableConfig):
    """A factory, which says what it was made with."""

    async def say(state: State) -> dict[str, Any]:
        told = json.dumps(config.get("configurable"), default=str) if state.get("look") else ""
        return {"told": told, "trail": ["made"]}

    graph = StateGraph(State)
    graph.add_node("say", say)
    graph.add_edge(START, "say")
    graph.add_edge("say", END)
    return graph
