"""Two models that talk at the same time, and then one that calls a tool; between two tokens the test may hold them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, TypedDict

from helm import helm
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig, ensure_config
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages

WORDS = ['"Hé"', "llo\n", "wör", "ld \\", "🌊", "", "\u2028 a ", "💧🌊", "\x00", "end"]


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    tokens: int


class Speaker(BaseChatModel):
    name: str
    tokens: int

    @property
    def _llm_type(self) -> str:
        return "speaker"

    def _generate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessageChunk(""))])

    async def _astream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        config = ensure_config()
        for n in range(self.tokens):
            await helm.begin(f"{self.name}:{n}", config)
            chunk = AIMessageChunk(WORDS[n % len(WORDS)], id=f"said-by-{self.name}")
            if self.name == "calls" and n:
                chunk.content = ""
                chunk.tool_call_chunks = [
                    tool_call_chunk(
                        name="add" if n == 1 else None,
                        args='{"a": [0' if n == 1 else "]}" if n == self.tokens - 1 else f", {n}",
                        id="call-1" if n == 1 else None,
                        index=0,
                    )
                ]
            if n == self.tokens - 1:
                chunk.usage_metadata = {"input_tokens": 3, "output_tokens": n, "total_tokens": n + 3}
                chunk.response_metadata = {"finish_reason": "stop"}
            yield ChatGenerationChunk(message=chunk)


def says(name: str) -> Any:
    async def node(state: State, config: RunnableConfig) -> dict:
        said = await Speaker(name=name, tokens=state.get("tokens", 12)).ainvoke([], config)
        helm.done(name, config)
        return {"messages": [said]}

    return node


_graph = StateGraph(State)
for _name in ("left", "right", "calls"):
    _graph.add_node(_name, says(_name))
_graph.add_edge(START, "left").add_edge(START, "right").add_edge(["left", "right"], "calls")
talks = _graph.compile(name="talks")


async def _answer(state: State, config: RunnableConfig) -> dict:
    await helm.begin("answer", config)
    return {"messages": [AIMessage("yes")]}


answers = StateGraph(State).add_node("answer", _answer).add_edge(START, "answer").compile(name="answers")
