"""Graphs of which a test can say how far they get."""

from __future__ import annotations

import asyncio
import operator
import os
import time
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph


class State(TypedDict, total=False):
    gate: str
    """A file; a gated node waits until it is there."""
    n: int
    sleep: float
    log: Annotated[list[int], operator.add]
    trace: str


def one_node(node: Any) -> Any:
    return StateGraph(State).add_node("node", node).add_edge(START, "node").add_edge("node", END).compile()


async def gated_node(state: State) -> dict[str, Any]:
    write = get_stream_writer()
    write("before the gate")
    while not Path(state["gate"]).exists():
        await asyncio.sleep(0.01)
    write("after the gate")
    return {"log": [1]}


gated = one_node(gated_node)


async def trace_node(state: State) -> dict[str, Any]:
    return {"trace": os.environ.get("_X_AMZN_TRACE_ID", "")}


trace = one_node(trace_node)


async def boom_node(state: State) -> dict[str, Any]:
    raise ValueError("boom")


boom = one_node(boom_node)


async def stuck_node(state: State) -> dict[str, Any]:
    """Holds the event loop, a little after it has said so."""
    get_stream_writer()("for ever")
    await asyncio.sleep(1)
    time.sleep(state["sleep"])  # noqa: ASYNC251 - that is the point
    return {"log": [1]}


stuck = one_node(stuck_node)


async def step_node(state: State) -> dict[str, Any]:
    await asyncio.sleep(state["sleep"])
    step = len(state.get("log", [])) + 1
    get_stream_writer()({"step": step, "pid": os.getpid()})
    return {"log": [step]}


def more(state: State) -> str:
    return "step" if len(state["log"]) < state["n"] else END


steps = (
    StateGraph(State)
    .add_node("step", step_node)
    .add_edge(START, "step")
    .add_conditional_edges("step", more, ["step", END])
    .compile()
)
