"""An agent as the page expects one: it titles its thread, and answers word by word from a model that counts its tokens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, TypedDict

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages

SAID = {
    "explain": "The tide turns twice a day, and between the two there is slack water.",
    "compare": "Then nothing pulls at the boat: whoever has to change the helmsman does it now.",
    "close": "So nobody on board has to notice, and the voyage goes on.",
}
PAUSE_SECONDS = 0.06


class Words(BaseChatModel):
    """Says its text, a word at a time."""

    text: str

    @property
    def _llm_type(self) -> str:
        return "words"

    @property
    def _usage(self) -> dict[str, int]:
        words = len(self.text.split())
        return {"input_tokens": 10, "output_tokens": words, "total_tokens": 10 + words}

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        said = AIMessage(self.text, usage_metadata=self._usage, response_metadata={"model_name": "words-1"})
        return ChatResult(generations=[ChatGeneration(message=said)])

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        words = self.text.split(" ")
        for place, word in enumerate(words):
            await asyncio.sleep(PAUSE_SECONDS)
            last = place == len(words) - 1
            yield ChatGenerationChunk(
                message=AIMessageChunk(
                    f" {word}" if place else word,
                    usage_metadata=self._usage if last else None,
                    response_metadata={"model_name": "words-1"} if last else {},
                )
            )


class State(TypedDict, total=False):
    messages: Annotated[list[BaseMessage], add_messages]
    title: str


async def title(state: State) -> dict[str, Any]:
    return {} if state.get("title") else {"title": "About slack water"}


def says(name: str) -> Any:
    async def node(state: State) -> dict[str, Any]:
        return {"messages": [await Words(text=SAID[name]).ainvoke(state["messages"])]}

    return node


graph = StateGraph(State)
graph.add_node("title", title)
graph.add_edge(START, "title")
before = "title"
for name in SAID:
    graph.add_node(name, says(name))
    graph.add_edge(before, name)
    before = name
lead_agent = graph.compile()
