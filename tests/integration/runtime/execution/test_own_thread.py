"""A run reads and writes the checkpoints of its own thread only, whatever its nodes do with what LangGraph hands them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from helm import Helm
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint
from rig import TYPED, Fleet

Saver = Any
Act = Callable[[Saver, RunnableConfig, RunnableConfig], Awaitable[object]]


async def all_of(saver: Saver, config: RunnableConfig | None) -> list[Any]:
    return [found async for found in saver.alist(config)]


async def invoke_inside(saver: Saver, own: RunnableConfig, other: RunnableConfig) -> object:
    from langgraph.graph import START, StateGraph

    inner = StateGraph(dict).add_node("in", lambda state: {}).add_edge(START, "in").compile()
    return await inner.ainvoke({}, {**own, "configurable": {**own["configurable"], **other["configurable"]}})


ACTS: dict[str, Act] = {
    "read": lambda saver, own, other: saver.aget_tuple(other),
    "list": lambda saver, own, other: all_of(saver, other),
    "list everything": lambda saver, own, other: all_of(saver, None),
    "put": lambda saver, own, other: saver.aput(other, empty_checkpoint(), {"source": "loop", "step": 9}, {}),
    "put writes": lambda saver, own, other: saver.aput_writes(
        {"configurable": {**other["configurable"], "checkpoint_id": "1"}}, [("seen", ["x"])], "task"
    ),
    "delete": lambda saver, own, other: saver.adelete_thread(other["configurable"]["thread_id"]),
    "prune": lambda saver, own, other: saver.aprune([other["configurable"]["thread_id"]]),
    "copy": lambda saver, own, other: saver.acopy_thread(
        own["configurable"]["thread_id"], other["configurable"]["thread_id"]
    ),
    "a graph inside": invoke_inside,
}


@pytest.mark.parametrize("act", ACTS)
async def test_a_node_reaches_no_other_thread_through_its_saver(fleet: Fleet, helm: Helm, act: str) -> None:
    process = await fleet.start(project=TYPED)
    other = (await process.admit("cargo", {}, owner="somebody else")).row
    await fleet.ended(other["run_id"])
    before = await fleet.checkpoints(other["thread_id"])

    async def reach(config: RunnableConfig) -> object:
        foreign: RunnableConfig = {
            "configurable": {"thread_id": str(other["thread_id"]), "checkpoint_ns": ""}
        }
        return await ACTS[act](config["configurable"]["__pregel_checkpointer"], config, foreign)

    helm.hooks["reach"] = reach
    run = (await process.admit("stray", {})).row
    row = await fleet.ended(run["run_id"])

    assert row["status"] == "error"
    assert row["error"]["error"] == "ForeignThread"
    assert await fleet.checkpoints(other["thread_id"]) == before


async def test_its_own_thread_a_node_may_read(fleet: Fleet, helm: Helm) -> None:
    process = await fleet.start(project=TYPED)

    async def reach(config: RunnableConfig) -> object:
        own: RunnableConfig = {"configurable": {"thread_id": config["configurable"]["thread_id"]}}
        saver = config["configurable"]["__pregel_checkpointer"]
        found = await saver.aget_tuple(own)
        return len(await all_of(saver, own)), found.metadata["step"]

    helm.hooks["reach"] = reach
    run = (await process.admit("stray", {})).row
    await fleet.ended(run["run_id"])

    assert (await fleet.thread(run["thread_id"]))["values"]["seen"] == ["(3, 1)"]
