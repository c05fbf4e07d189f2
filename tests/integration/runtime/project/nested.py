"""Graphs whose nodes invoke other graphs themselves: in threads, in loops of their own, side by side."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable
from typing import Annotated, Any

from helm import helm
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_config, get_store
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    log: Annotated[list, operator.add]


EMPTY: State = {"log": []}


def chain(*nodes: Callable[..., Any], checkpointer: Any = None) -> CompiledStateGraph:
    """Nodes one after another, named by their functions."""
    builder = StateGraph(State)
    names = [node.__name__ for node in nodes]
    for before, name, node in zip((START, *names), names, nodes, strict=False):
        builder.add_node(name, node)
        builder.add_edge(before, name)
    builder.add_edge(names[-1], END)
    return builder.compile(checkpointer=checkpointer)


def walk(name: str) -> Callable[..., Any]:
    async def node(state: State, config: RunnableConfig) -> dict:
        await helm.begin(name, config)
        helm.done(name, config)
        return {"log": [name]}

    node.__name__ = name
    return node


def walk_sync(name: str) -> Callable[..., Any]:
    def node(state: State, config: RunnableConfig) -> dict:
        helm.begin_sync(name, config)
        helm.done(name, config)
        return {"log": [name]}

    node.__name__ = name
    return node


steps = chain(walk_sync("in_1"), walk_sync("in_2"), walk_sync("in_3"))
async_steps = chain(walk("in_1"), walk("in_2"), walk("in_3"))


def around(node: Callable[..., Any], *more: Callable[..., Any]) -> CompiledStateGraph:
    return chain(walk("a"), node, *more, walk("z"))


def invokes(graph: CompiledStateGraph) -> Callable[..., Any]:
    def node(state: State) -> dict:
        return {"log": graph.invoke(EMPTY)["log"]}

    return node


invoked = around(invokes(steps))
invoked_remembering = around(
    invokes(chain(walk_sync("in_1"), walk_sync("in_2"), walk_sync("in_3"), checkpointer=True))
)
invoked_without = around(
    invokes(chain(walk_sync("in_1"), walk_sync("in_2"), walk_sync("in_3"), checkpointer=False))
)
apart = chain(walk_sync("in_1"), walk_sync("in_2"), walk_sync("in_3"), checkpointer=InMemorySaver())


def own_saver(state: State, config: RunnableConfig) -> dict:
    own = {"configurable": {"thread_id": f"of {config['configurable']['run_id']}"}}
    return {"log": apart.invoke(EMPTY, own)["log"]}  # type: ignore[arg-type]


invoked_own_saver = around(own_saver)


def streams(state: State) -> dict:
    said = list(steps.stream(EMPTY, stream_mode=["updates", "values"], subgraphs=True))
    return {"log": said[-1][2]["log"]}


streamed = around(streams)


def runs_loop(state: State) -> dict:
    return {"log": asyncio.run(async_steps.ainvoke(EMPTY))["log"]}


def runs_loop_with_threads(state: State) -> dict:
    return {"log": asyncio.run(steps.ainvoke(EMPTY))["log"]}


own_loop, own_loop_threads = around(runs_loop), around(runs_loop_with_threads)


async def side_by_side() -> list:
    first, second = await asyncio.gather(async_steps.ainvoke(EMPTY), async_steps.ainvoke(EMPTY))
    return [*first["log"], *second["log"]]


async def in_task_group() -> list:
    async with asyncio.TaskGroup() as group:
        first = group.create_task(async_steps.ainvoke(EMPTY))
        second = group.create_task(async_steps.ainvoke(EMPTY))
    return [*first.result()["log"], *second.result()["log"]]


def runs_gather(state: State) -> dict:
    return {"log": asyncio.run(side_by_side())}


def runs_group(state: State) -> dict:
    return {"log": asyncio.run(in_task_group())}


async def gathers(state: State) -> dict:
    return {"log": await side_by_side()}


async def groups(state: State) -> dict:
    return {"log": await in_task_group()}


own_loop_gather, own_loop_group = around(runs_gather), around(runs_group)
gather, group = around(gathers), around(groups)


async def to_thread(state: State) -> dict:
    done = await asyncio.to_thread(steps.invoke, EMPTY)
    return {"log": done["log"]}


threaded = around(to_thread)


@tool
def ask_the_graph(question: str) -> str:
    """Asks another graph."""
    return ",".join(steps.invoke(EMPTY)["log"])


def calls_tool(state: State) -> dict:
    return {"log": ask_the_graph.invoke({"question": "?"}).split(",")}


async def acalls_tool(state: State) -> dict:
    return {"log": (await ask_the_graph.ainvoke({"question": "?"})).split(",")}


in_tool, in_async_tool = around(calls_tool), around(acalls_tool)


async def blocks(state: State) -> dict:
    """Async, but calls sync code, whose callbacks nobody may make wait for this loop."""
    chained = RunnableLambda(lambda log: log) | RunnableLambda(lambda log: [*log, "chained"])
    return {"log": chained.invoke([])}


def goes_on(state: State) -> dict:
    return {"log": steps.invoke(EMPTY)["log"]}


blocking = around(blocks, goes_on)


def looks(state: State) -> dict:
    """Reads and writes the state of the graph that it runs in, and the history of another."""
    config = get_config()
    seen = steps.invoke(EMPTY)["log"]
    here = {"configurable": {"thread_id": config["configurable"]["thread_id"]}}
    root = looking.copy(update={"checkpointer": config["configurable"]["__pregel_checkpointer"]})
    state_log = root.get_state(here).values["log"]  # type: ignore[arg-type]
    history = len(list(root.get_state_history(here, limit=2)))  # type: ignore[arg-type]
    return {"log": [*seen, f"state:{','.join(state_log)}", f"history:{history}"]}


looking = around(looks)


def remembers(state: State) -> dict:
    """The store from a thread, and from a loop of its own."""
    store = get_store()
    store.put(("notes",), "sync", {"from": "thread"})

    async def in_loop() -> list:
        await store.aput(("notes",), "async", {"from": "loop"})
        found, one = await asyncio.gather(store.asearch(("notes",)), store.aget(("notes",), "sync"))
        assert one is not None
        return sorted(item.key for item in found)

    keys = asyncio.run(in_loop())
    assert [item.key for item in store.search(("notes",), limit=1)]
    return {"log": keys}


storing = around(remembers)


# Side by side in one node

left = chain(walk("l_1"), walk("l_2"), walk("l_3"))
right = chain(walk("r_1"), walk("r_2"), walk("r_3"))


async def gathers_two(state: State) -> dict:
    one, two = await asyncio.gather(left.ainvoke(EMPTY), right.ainvoke(EMPTY))
    return {"log": one["log"] + two["log"]}


async def groups_two(state: State) -> dict:
    async with asyncio.TaskGroup() as group:
        one, two = group.create_task(left.ainvoke(EMPTY)), group.create_task(right.ainvoke(EMPTY))
    return {"log": one.result()["log"] + two.result()["log"]}


async def gathers_plain(state: State, config: RunnableConfig) -> dict:
    """A graph beside what is none."""

    async def plain() -> list:
        await helm.begin("plain", config)
        helm.done("plain", config)
        return ["plain"]

    one, two = await asyncio.gather(left.ainvoke(EMPTY), plain())
    return {"log": [*one["log"], *two]}


async def gathers_thread(state: State) -> dict:
    one, two = await asyncio.gather(left.ainvoke(EMPTY), asyncio.to_thread(steps.invoke, EMPTY))
    return {"log": one["log"] + two["log"]}


async def fails_beside(state: State) -> dict:
    async def fail() -> dict:
        await asyncio.sleep(0.05)
        raise ValueError("boom")

    await asyncio.gather(right.ainvoke(EMPTY), fail())
    return {}


async def groups_error(state: State) -> dict:
    async def fail() -> None:
        try:
            await asyncio.sleep(20)
        finally:
            raise ValueError("boom")

    async with asyncio.TaskGroup() as group:
        group.create_task(left.ainvoke(EMPTY))
        group.create_task(fail())
    return {}


async def opens(state: State) -> dict:
    """Leaves a task behind, as a library does that keeps a connection."""
    helm.kept.append(asyncio.create_task(asyncio.sleep(3600)))
    return {"log": ["opens"]}


async def gathers_exceptions(state: State) -> dict:
    """Takes an error of one for a result: that of a drain, too."""
    found = await asyncio.gather(left.ainvoke(EMPTY), right.ainvoke(EMPTY), return_exceptions=True)
    return {"log": [name for each in found if isinstance(each, dict) for name in each["log"]]}


async def falls_back(state: State) -> dict:
    try:
        return {"log": (await left.ainvoke(EMPTY))["log"]}
    except Exception:
        return {"log": ["fallback"]}


async def ends_early(state: State, config: RunnableConfig, runtime: Runtime) -> dict:
    """Asks by itself whether it is to stop, and ends."""
    await helm.begin("ends_early", config)
    while not runtime.drain_requested:
        await asyncio.sleep(0.01)
    return {"log": ["early"]}


swallowing, falling_back, ending_early = around(gathers_exceptions), around(falls_back), around(ends_early)
two_gathered, two_grouped = around(gathers_two), around(groups_two)
gathered_plain, gathered_thread = around(gathers_plain), around(gathers_thread)
failing_beside, grouped_error = around(fails_beside), around(groups_error)
keeping = chain(opens, walk("b"), walk("c"))
