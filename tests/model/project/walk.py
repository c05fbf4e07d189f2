"""A graph each of whose supersteps waits until the model says what it is to do."""

from __future__ import annotations

from operator import add
from typing import Annotated, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

from tests.model.gates import Do, gates


class State(TypedDict, total=False):
    log: Annotated[list[str], add]
    over: bool


async def step(state: State, config: RunnableConfig) -> State:
    metadata = config.get("metadata") or {}
    what = await gates.wait(str(metadata.get("run_id")))
    if what is Do.FAIL:
        raise ValueError("as the model wants it")
    if what is Do.ASK:
        interrupt({"from": "step"})
    return {"log": [gates.mark()], "over": what is Do.END}


graph = (
    StateGraph(State)
    .add_node("step", step)
    .add_edge(START, "step")
    .add_conditional_edges("step", lambda state: END if state["over"] else "step", ["step", END])
    .compile()
)
