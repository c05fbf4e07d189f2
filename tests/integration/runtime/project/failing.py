"""Graphs whose nodes fail in ways in which the error itself does not say where."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import RetryPolicy
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    log: Annotated[list, operator.add]
    last: str


def chain(**nodes: Callable[..., Any]) -> CompiledStateGraph:
    builder = StateGraph(State)
    names = list(nodes)
    for before, name in zip((START, *names), names, strict=False):
        builder.add_node(name, nodes[name])
        builder.add_edge(before, name)
    return builder.add_edge(names[-1], END).compile()


async def fine(state: State) -> dict:
    return {"log": ["fine"]}


async def secretive(state: State) -> dict:
    """Its message is not shown: it may quote a key."""
    raise ConnectionError("postgres://user:secret@host")


async def closed(state: State) -> dict:
    """What a client says that was made in another event loop."""
    loop = asyncio.new_event_loop()
    loop.close()
    loop.call_soon(print)
    return {}


async def bound(state: State) -> dict:
    """The same of one that waits."""
    event = asyncio.Event()

    def wait_elsewhere() -> None:
        async def wait() -> None:
            with suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), 0.01)

        asyncio.run(wait())

    await asyncio.to_thread(wait_elsewhere)
    await event.wait()
    return {}


async def gives_up(state: State) -> dict:
    raise asyncio.CancelledError


async def dawdles(state: State) -> dict:
    await asyncio.sleep(5)
    return {}


inner = chain(fine=fine, secretive=secretive)


def invokes(state: State) -> dict:
    return asyncio.run(inner.ainvoke({}))


async def groups(state: State) -> dict:
    async with asyncio.TaskGroup() as group:
        group.create_task(inner.ainvoke({}))
    return {}


alone = chain(fine=fine, secretive=secretive)
nested = chain(fine=fine, child=inner)
invoked = chain(fine=fine, invokes=invokes)
grouped = chain(fine=fine, groups=groups)
loop_closed, loop_bound = chain(fine=fine, closed=closed), chain(fine=fine, bound=bound)
cancelled = chain(fine=fine, gives_up=gives_up)
retried = (
    StateGraph(State)
    .add_node("secretive", secretive, retry_policy=RetryPolicy(initial_interval=0.01, jitter=False))
    .add_edge(START, "secretive")
    .compile()
)
too_slow = chain(fine=fine, dawdles=dawdles)
too_slow.step_timeout = 0.5


async def left(state: State) -> dict:
    return {"last": "left"}


async def right(state: State) -> dict:
    return {"last": "right"}


conflicting = (
    StateGraph(State)
    .add_node("left", left)
    .add_node("right", right)
    .add_edge(START, "left")
    .add_edge(START, "right")
    .compile()
)
