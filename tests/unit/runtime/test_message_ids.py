"""A message that readers are told of has the id under which the state keeps it."""

from __future__ import annotations

from typing import Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, BaseMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command

from slackwater.runtime.execution import message_ids


class Plain(TypedDict):
    messages: list[BaseMessage]


async def answer(state: Any) -> dict[str, Any]:
    return {"messages": [AIMessage("yes")]}


async def command(state: Any) -> Command[str]:
    return Command(update={"messages": [AIMessage("yes")]}, goto=END)


async def told(schema: Any, node: Any) -> tuple[list[str | None], list[str | None]]:
    """The ids of the messages that are told of with the end of the node, and those that the state has at the end."""
    graph = StateGraph(schema).add_node("node", node).add_edge(START, "node").compile(InMemorySaver())
    ids: list[str | None] = []
    config: Any = {"configurable": {"thread_id": "t"}}
    async for record in graph.astream_events({"messages": []}, config, version="v2"):
        await message_ids.given(record)
        if record["name"] == "node" and record["event"] in ("on_chain_stream", "on_chain_end"):
            ids += [message.id for message in message_ids._messages(record["data"])]
    return ids, [message.id for message in (await graph.aget_state(config)).values["messages"]]


@pytest.mark.parametrize("node", [answer, command])
async def test_what_a_node_returns_has_the_ids_of_the_state(node: Any) -> None:
    ids, kept = await told(MessagesState, node)
    assert ids
    assert set(ids) == set(kept)
    assert None not in kept


async def test_a_state_that_gives_no_ids_is_not_waited_for() -> None:
    ids, kept = await told(Plain, answer)
    assert ids
    assert set(ids) == set(kept) == {None}
