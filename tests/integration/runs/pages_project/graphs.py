"""Graphs that take longer than a page, that wait for the test, and that say more than a page can hold."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

from gateway import holds
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph
from typing_extensions import TypedDict

Node = Callable[..., Any]


class State(TypedDict, total=False):
    """`sizes`: bytes of what each step says."""

    n: int
    sleep: float
    sizes: list[int]
    i: int
    text: str
    log: Annotated[list, operator.add]


async def step(state: State) -> dict:
    i = state.get("i", 0)
    await asyncio.sleep(state.get("sleep") or 0)
    get_stream_writer()({"step": i})
    sizes = state.get("sizes") or []
    return {"i": i + 1, "text": "x" * (sizes[i] if i < len(sizes) else 0), "log": [f"step-{i}"]}


def more(state: State) -> str:
    return "step" if state["i"] < state.get("n", 5) else END


line = (
    StateGraph(State)
    .add_node("step", step)
    .add_edge(START, "step")
    .add_conditional_edges("step", more, ["step", END])
    .compile()
)


def chain(schema: Any, *names: str, **nodes: Node | CompiledStateGraph) -> CompiledStateGraph:
    builder = StateGraph(schema)
    for before, name in zip((START, *names), names, strict=False):
        builder.add_node(name, nodes[name])
        builder.add_edge(before, name)
    builder.add_edge(names[-1], END)
    return builder.compile()


def waiting(name: str) -> Node:
    async def node(state: State) -> dict:
        await holds.pass_by(name)
        get_stream_writer()({"at": name})
        return {"log": [name]}

    return node


held = chain(State, "a", "b", "c", a=waiting("a"), b=waiting("b"), c=waiting("c"))


async def fails(state: State) -> dict:
    raise ValueError("boom")


boom = chain(State, "a", "fails", a=waiting("a"), fails=fails)


class WordByWord(BaseChatModel):
    delay: float = 0.0

    @property
    def _llm_type(self) -> str:
        return "word-by-word"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(str(messages[-1].content)))])

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for word in str(messages[-1].content).split():
            chunk = ChatGenerationChunk(message=AIMessageChunk(content=f"{word} "))
            if run_manager:
                await run_manager.on_llm_new_token(f"{word} ", chunk=chunk)
            await asyncio.sleep(self.delay)
            yield chunk


class Talk(State, total=False):
    messages: Annotated[list[AnyMessage], add_messages]


def speaker(name: str) -> Node:
    async def node(state: Talk, config: RunnableConfig) -> dict:
        await asyncio.sleep(state["sleep"])
        model = WordByWord(delay=0.05)
        return {"messages": [await model.ainvoke(state["messages"], config)], "log": [name]}

    return node


team = chain(Talk, "think", "speak", think=speaker("think"), speak=speaker("speak"))
talk = chain(Talk, "greet", "team", "close", greet=speaker("greet"), team=team, close=speaker("close"))
