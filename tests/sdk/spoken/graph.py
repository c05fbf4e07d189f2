"""What reaches the projections of a thread's stream, and what does not: every node writes to the extension `progress`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    AnyMessage,
    BaseMessage,
    HumanMessage,
    ToolMessage,
)
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from typing_extensions import TypedDict


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


class Whole(BaseChatModel):
    """Says everything at once."""

    @property
    def _llm_type(self) -> str:
        return "whole"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage("at once", id="whole"))])


class Streaming(Whole):
    """Says a word after the other."""

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for word, position in (("word", None), (" by", None), (" word", "last")):
            chunk = AIMessageChunk(word, id="streamed", chunk_position=position)
            yield ChatGenerationChunk(message=chunk)


async def streams(state: State) -> State:
    get_stream_writer()({"name": "progress", "step": "streams"})
    return {"messages": [await Streaming().ainvoke("x")]}


async def events(state: State) -> State:
    """As the SDK's own tests do: the model's events, and a message made of them."""
    get_stream_writer()({"name": "progress", "step": "events"})
    said = await Streaming().astream_events("x", version="v3")
    text = "".join([e["delta"]["text"] async for e in said if e["event"] == "content-block-delta"])
    return {"messages": [AIMessage(text, id="streamed")]}


async def at_once(state: State) -> State:
    get_stream_writer()({"name": "progress", "payload": {"step": "at_once"}})
    return {"messages": [await Whole().ainvoke("x")]}


async def returns(state: State) -> State:
    """What no model has said."""
    writer = get_stream_writer()
    writer({"name": "other", "step": "returns"})
    writer({"step": "nameless"})
    call = {"id": "c", "name": "search", "args": {"query": "x"}}
    return {
        "messages": [
            AIMessage("", id="calls", tool_calls=[call]),
            ToolMessage("found", tool_call_id="c", id="tool"),
            AIMessage("made up", id="made-up"),
            HumanMessage("hello", id="human"),
        ]
    }


graph = StateGraph(State).add_sequence([streams, at_once, returns]).add_edge(START, "streams").compile()
by_events = StateGraph(State).add_node("events", events).add_edge(START, "events").compile()
