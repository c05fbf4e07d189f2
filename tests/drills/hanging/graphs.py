"""What keeps a process: a thread, a node that does not listen, one that takes its time to end, a factory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from typing_extensions import TypedDict

LONG = 120


class State(TypedDict, total=False):
    done: bool


def one(node: Callable[..., Any]) -> CompiledStateGraph:
    return StateGraph(State).add_node("node", node).add_edge(START, "node").compile()


def sleeping(state: State) -> State:
    time.sleep(LONG)
    return {"done": True}


async def not_listening(state: State) -> State:
    until = time.monotonic() + LONG
    while (left := until - time.monotonic()) > 0:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(left)
    return {"done": True}


async def ending_slowly(state: State) -> State:
    try:
        await asyncio.sleep(LONG)
    finally:
        await asyncio.sleep(LONG)
    return {"done": True}


async def ending_late(state: State) -> State:
    try:
        await asyncio.sleep(LONG)
    finally:
        await asyncio.sleep(1)
    return {"done": True}


async def at_once(state: State) -> State:
    return {"done": True}


@asynccontextmanager
async def unclosed() -> AsyncIterator[CompiledStateGraph]:
    yield one(at_once)
    await not_listening({})


sleeps, deaf = one(sleeping), one(not_listening)
slow_end, late_end = one(ending_slowly), one(ending_late)
