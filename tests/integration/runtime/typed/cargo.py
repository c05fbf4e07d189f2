"""A graph whose state is made of classes, and one whose node reaches for another thread."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple
from uuid import SafeUUID

from helm import helm
from langchain_core.messages import AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from pydantic import BaseModel
from typing_extensions import TypedDict


class Colour(Enum):
    RED = "red"


class Port(NamedTuple):
    name: str


class Crate(BaseModel):
    colour: Colour
    weight: int


@dataclass
class Hold:
    crates: list[Crate] = field(default_factory=list)


class State(TypedDict, total=False):
    hold: Hold
    anything: Any
    """Nobody declares what is in it."""
    messages: list[AnyMessage]
    kind: SafeUUID
    """Not the project's own, but declared."""
    seen: list[str]


def scuttle(name: str) -> str:
    """Is no data."""
    return f"{name} is gone"


async def load(state: State, config: RunnableConfig) -> State:
    await helm.begin("load", config)
    return {
        "hold": Hold([Crate(colour=Colour.RED, weight=3)]),
        "anything": [Port("Hull"), Crate(colour=Colour.RED, weight=1)],
        "messages": [HumanMessage("aye")],
        "kind": SafeUUID.safe,
    }


async def unload(state: State, config: RunnableConfig) -> State:
    await helm.begin("unload", config)
    hold = state["hold"]
    values = (
        hold,
        *hold.crates,
        hold.crates[0].colour,
        *state["anything"],
        *state["messages"],
        state["kind"],
    )
    return {"seen": [type(value).__name__ for value in values]}


def chained(first: Any, second: Any) -> CompiledStateGraph:
    builder = StateGraph(State).add_node("load", first).add_node("unload", second)
    return builder.add_edge(START, "load").add_edge("load", "unload").compile()


cargo = chained(load, unload)

inner = StateGraph(State).add_node("in", lambda state: {"seen": ["in"]}).add_edge(START, "in").compile()


async def reach(state: State, config: RunnableConfig) -> State:
    """Does what the test says with its own config, in which LangGraph has put the checkpointer."""
    return {"seen": [str(await helm.hooks["reach"](config))]}


stray = chained(load, reach)
