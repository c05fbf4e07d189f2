"""The graphs that are measured. `five` and `one` do nothing; `steps` sleeps, and says when."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from typing_extensions import TypedDict

KILOBYTE = {"lines": [f"{n:02d} " + "slack water " * 8 for n in range(10)]}
"""The state that a run starts with; as a list it is stored as a blob with each checkpoint."""


class Document(TypedDict):
    lines: list[str]


async def pass_on(state: Document) -> Document:
    return {"lines": state["lines"]}


def chain(length: int) -> StateGraph[Any, Any, Any, Any]:
    """`length` nodes one after another, not compiled."""
    names = [f"node{n}" for n in range(1, length + 1)]
    builder = StateGraph(Document)
    for before, name in zip([START, *names], names, strict=False):
        builder.add_node(name, pass_on)
        builder.add_edge(before, name)
    return builder.add_edge(names[-1], END)


five: CompiledStateGraph[Any, Any, Any, Any] = chain(5).compile()
one: CompiledStateGraph[Any, Any, Any, Any] = chain(1).compile()


class Walk(TypedDict, total=False):
    steps: int
    sleep: float
    done: int


async def step(state: Walk, config: RunnableConfig) -> Walk:
    number = state.get("done", 0) + 1
    run = config["metadata"]["run_id"]
    _mark(run, number, "start")
    await asyncio.sleep(state["sleep"])
    _mark(run, number, "done")
    return {"done": number}


def more(state: Walk) -> str:
    return "step" if state["done"] < state["steps"] else END


steps: CompiledStateGraph[Any, Any, Any, Any] = (
    StateGraph(Walk)
    .add_node("step", step)
    .add_edge(START, "step")
    .add_conditional_edges("step", more)
    .compile()
)


def _mark(run: str, number: int, phase: str) -> None:
    """A line `run step phase pid seconds`, if somebody wants to know. Processes share the machine's clock."""
    if path := os.environ.get("BENCH_MARKS"):
        line = f"{run} {number} {phase} {os.getpid()} {time.time():.6f}\n"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, line.encode())
        os.close(descriptor)
