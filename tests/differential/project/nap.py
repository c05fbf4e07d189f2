"""A graph to be stopped in: a node that finishes at once, one that sleeps or waits to be woken, one behind it."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated

from langgraph.graph import END, START, StateGraph
from langgraph.store.base import BaseStore
from typing_extensions import TypedDict


class NapState(TypedDict, total=False):
    sleep: float
    until: str
    trail: Annotated[list[str], operator.add]


async def before(state: NapState) -> NapState:
    return {"trail": ["before"]}


async def sleep(state: NapState, *, store: BaseStore) -> NapState:
    """Sleep for `sleep` seconds, and until there is an item `until` in the store."""
    await asyncio.sleep(state.get("sleep") or 0)
    while "until" in state and await store.aget(("wake",), state["until"]) is None:
        await asyncio.sleep(0.1)
    return {"trail": ["slept"]}


async def after(state: NapState) -> NapState:
    return {"trail": ["after"]}


nap = (
    StateGraph(NapState)
    .add_node("before", before)
    .add_node("sleep", sleep)
    .add_node("after", after)
    .add_edge(START, "before")
    .add_edge("before", "sleep")
    .add_edge("sleep", "after")
    .add_edge("after", END)
    .compile()
)
