"""What of a graph's callbacks becomes rows, and in which order."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Annotated, Any, TypedDict
from uuid import uuid4

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import RetryPolicy

from slackwater.runtime.execution.recording import MessageRecorder, SaidBefore
from slackwater.runtime.fenced.records import Records, SaidMessage, Usage


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]


class Heard:
    """A recorder, and what it has kept for the writer."""

    def __init__(self) -> None:
        self.records = Records(uuid4(), uuid4(), "owner", 1)
        self.recorder = MessageRecorder(self.records, begins=True, expects_human=True, said=SaidBefore())

    async def run(self, node: Callable[[State], Awaitable[Any]], **options: Any) -> None:
        """Run a graph of one node, in which somebody says hello."""
        graph = StateGraph(State).add_node("node", node, **options).add_edge(START, "node").compile()
        await graph.ainvoke({"messages": [HumanMessage("hello")]}, {"callbacks": [self.recorder]})

    def stored_alone(self) -> list[str]:
        """The events of a statement that is sent now, without any task's writes."""
        return [row[3] for row in self.records.take([]).messages]

    def said(self) -> list[SaidMessage]:
        return [message for message in self.records.all() if message.category == "message"]

    def usage(self) -> list[Usage]:
        return self.records.take([]).usage


def model(*answers: str) -> GenericFakeChatModel:
    usage: Any = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    return GenericFakeChatModel(messages=iter(AIMessage(answer, usage_metadata=usage) for answer in answers))


def texts(messages: list[SaidMessage]) -> list[str]:
    return [json.loads(message.content)["content"] for message in messages]


async def test_a_chain_that_a_tool_awaits_twice_is_no_second_try_of_the_task() -> None:
    heard, asked = Heard(), RunnableLambda(lambda text: text) | model("first", "second")

    @tool
    async def ask() -> str:
        """Ask."""
        return "".join([(await asked.ainvoke("?")).content for _ in range(2)])

    async def node(state: State) -> None:
        await ask.ainvoke({"name": "ask", "args": {}, "id": "call", "type": "tool_call"})

    await heard.run(node)
    assert texts(heard.said()) == ["?", "first", "second", "firstsecond"]
    assert [(call.place, call.repeated) for call in heard.usage()] == [(0, False), (1, False)]


async def test_a_task_that_is_tried_again_may_say_a_message_of_the_same_id() -> None:
    heard, tries = Heard(), list[int]()

    @tool
    async def look() -> Any:
        """Look."""
        return ToolMessage(f"look {len(tries)}", tool_call_id="call", id="seen")

    async def node(state: State) -> None:
        message = await look.ainvoke({"name": "look", "args": {}, "id": "call", "type": "tool_call"})
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError(message)

    await heard.run(node, retry_policy=RetryPolicy(initial_interval=0.001, jitter=False, max_attempts=2))
    assert texts(heard.said()) == ["look 1"]


@pytest.mark.parametrize("fails", [False, True])
async def test_the_end_of_a_run_is_told_behind_all_its_messages(fails: bool) -> None:
    heard = Heard()

    async def node(state: State) -> None:
        await model("answer").ainvoke(state["messages"])
        if fails:
            raise ValueError("no")

    with suppress(ValueError):
        await heard.run(node)
    # WHEN something is stored between the end of the graph and that of the run
    assert heard.stored_alone() == ["run.start", "llm.human.input"]
    ends = [message.event_type for message in heard.records.all()]
    assert ends == ["llm.ai.response", "run.error" if fails else "run.end"]


async def test_what_a_middleware_asks_is_not_what_somebody_has_said() -> None:
    heard = Heard()

    async def node(state: State) -> None:
        await model("no").ainvoke([HumanMessage("Is it safe?")], {"tags": ["middleware:guard"]})
        await model("answer").ainvoke(state["messages"])

    await heard.run(node)
    assert sorted(texts(heard.said())) == ["answer", "hello", "no"]


async def test_a_count_that_nobody_can_read_costs_no_message(caplog: pytest.LogCaptureFixture) -> None:
    heard = Heard()
    answer = AIMessage("answer")
    answer.usage_metadata = "many"  # type: ignore[assignment]

    async def node(state: State) -> None:
        await GenericFakeChatModel(messages=iter([answer])).ainvoke(state["messages"])

    await heard.run(node)
    assert texts(heard.said()) == ["hello", "answer"]
    assert heard.usage() == []
    assert "usage.lost" in [line.__dict__.get("event") for line in caplog.records]
