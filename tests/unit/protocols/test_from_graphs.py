"""What LangGraph streams, as the run's log has it, and as protocol v2 tells it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode
from typing_extensions import TypedDict

from slackwater.protocols.events.service import STREAM_MODES
from slackwater.protocols.events.translation import Envelope, translate
from slackwater.runtime.events.journal import EventId
from slackwater.runtime.events.thread_reader import ThreadEvent
from slackwater.runtime.execution.encoding import Encoder, StreamPlan

RUN = UUID(int=1)


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


async def told(graph: CompiledStateGraph, given: Any) -> list[Envelope]:
    """What is told of a run of the graph."""
    plan = StreamPlan.of(STREAM_MODES, subgraphs=True, blocks=True)
    encoder = Encoder(plan, run_id=str(RUN), resumed=False)
    entries: list[ThreadEvent] = []
    async for item in graph.astream(given, stream_mode=encoder.modes, subgraphs=True):
        for event in encoder.feed(*plan.chunk(item)):
            entries.append(ThreadEvent(EventId(1, len(entries) + 1), event.name, event.data, RUN, 0, "demo"))
    return list(translate(entries))


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def test_the_tools_of_langchain_say_when_they_begin_and_end() -> None:
    async def ask(state: State) -> dict[str, Any]:
        call = {"name": "add", "args": {"a": 2, "b": 3}, "id": "call-1"}
        return {"messages": [AIMessage("", tool_calls=[call], id="m")]}

    graph = (
        StateGraph(State)
        .add_node("ask", ask)
        .add_node("tools", ToolNode([add]))
        .add_edge(START, "ask")
        .add_edge("ask", "tools")
        .add_edge("tools", END)
        .compile()
    )
    events = await told(graph, {"messages": []})
    data = [e.data for e in events if e.method == "tools"]
    assert len(data) == 2
    messages = [(e.namespace, e.data) for e in events if e.method == "messages"]
    # What the tool has answered comes whole. The call, which no model has said, is in the state only.
    assert [(ns, d["content"]) for ns, d in messages if d["event"] == "content-block-finish"] == [
        (("tools:call-1",), {"type": "text", "text": "5"}),
    ]


class Whole(BaseChatModel):
    """Does not stream."""

    @property
    def _llm_type(self) -> str:
        return "whole"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        call = {"name": "add", "args": {"a": 2, "b": 3}, "id": "call-1"}
        return ChatResult(generations=[ChatGeneration(message=AIMessage("", tool_calls=[call], id="m"))])


async def test_a_model_that_does_not_stream_says_its_message_once() -> None:
    async def ask(state: State) -> dict[str, Any]:
        return {"messages": [await Whole().ainvoke("x"), AIMessage("made up by the node")]}

    graph = StateGraph(State).add_node("ask", ask).add_edge(START, "ask").compile()
    data = [e.data for e in await told(graph, {"messages": []}) if e.method == "messages"]
    assert [d["content"] for d in data if d["event"] == "content-block-finish"] == [
        {"type": "tool_call", "name": "add", "args": {"a": 2, "b": 3}, "id": "call-1"}
    ]


class Thinker(BaseChatModel):
    """Says that it thinks in a provider's own way."""

    @property
    def _llm_type(self) -> str:
        return "thinker"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage("unused"))])

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        about = {"model_provider": "anthropic"}
        for block in (
            {"type": "thinking", "thinking": "Hm", "index": 0},
            {"type": "thinking", "thinking": "m.", "index": 0},
            {"type": "text", "text": "Yes", "index": 1},
        ):
            chunk = AIMessageChunk(content=[block], response_metadata=about)  # type: ignore[list-item]
            yield ChatGenerationChunk(message=chunk)


async def test_what_only_a_providers_translator_understands_is_told_in_the_protocols_blocks() -> None:
    async def think(state: State, config: RunnableConfig) -> dict[str, Any]:
        return {"messages": [await Thinker().ainvoke(state["messages"], config)]}

    graph = StateGraph(State).add_node("think", think).add_edge(START, "think").compile()
    data = [e.data for e in await told(graph, {"messages": []}) if e.method == "messages"]
    assert data[0]["metadata"] == {"provider": "anthropic"}
    deltas = [d["delta"] for d in data if d["event"] == "content-block-delta"]
    assert deltas == [
        {"type": "reasoning-delta", "reasoning": "Hm"},
        {"type": "reasoning-delta", "reasoning": "m."},
        {"type": "text-delta", "text": "Yes"},
    ]
    assert [d["content"]["type"] for d in data if d["event"] == "content-block-finish"] == [
        "reasoning",
        "text",
    ]
