"""The graphs that are measured. `one`, `five`, `twenty` and `fifty` nodes do nothing; `steps` sleeps, and says when;
`tokens` streams what a chat model would say.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from typing_extensions import TypedDict

KILOBYTE = {"lines": [f"{n:02d} " + "slack water " * 8 for n in range(10)]}
"""The state that a run starts with; as a list it is stored as a blob with each checkpoint."""


def state_of(kilobytes: int) -> dict[str, list[str]]:
    """Lines of digits that compress to half, the same each time."""
    numbers = random.Random(kilobytes)  # noqa: S311 - no secret
    return {"lines": [f"{n:06d} {numbers.randbytes(46).hex()}" for n in range(kilobytes * 10)]}


class Document(TypedDict):
    lines: list[str]


async def pass_on(state: Document) -> Document:
    return {"lines": state["lines"]}


def chain(length: int) -> StateGraph[Any, Any, Any, Any]:
    """`length` nodes one after another, not compiled."""
    names = [f"node{n}" for n in range(1, length + 1)]
    builder = StateGraph(Document)
    for before, name in zip([START, *names], names, strict=False):
        builder.add_node(name, pass_on)
        builder.add_edge(before, name)
    return builder.add_edge(names[-1], END)


one: CompiledStateGraph[Any, Any, Any, Any] = chain(1).compile()
five: CompiledStateGraph[Any, Any, Any, Any] = chain(5).compile()
twenty: CompiledStateGraph[Any, Any, Any, Any] = chain(20).compile()
fifty: CompiledStateGraph[Any, Any, Any, Any] = chain(50).compile()


class Walk(TypedDict, total=False):
    steps: int
    sleep: float
    done: int


async def step(state: Walk, config: RunnableConfig) -> Walk:
    number = state.get("done", 0) + 1
    run = config["metadata"]["run_id"]
    _mark(run, number, "start")
    await asyncio.sleep(state["sleep"])
    _mark(run, number, "done")
    return {"done": number}


def more(state: Walk) -> str:
    return "step" if state["done"] < state["steps"] else END


steps: CompiledStateGraph[Any, Any, Any, Any] = (
    StateGraph(Walk)
    .add_node("step", step)
    .add_edge(START, "step")
    .add_conditional_edges("step", more)
    .compile()
)


class Parrot(BaseChatModel):
    """Says the same word again and again."""

    tokens: int
    pace: float
    """Tokens a second; 0: as many as the machine makes."""

    @property
    def _llm_type(self) -> str:
        return "parrot"

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content="slack " * self.tokens))])

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **_: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for _number in range(self.tokens):
            await asyncio.sleep(1 / self.pace if self.pace else 0)
            chunk = ChatGenerationChunk(message=AIMessageChunk(content="slack "))
            if run_manager is not None:
                await run_manager.on_llm_new_token("slack ", chunk=chunk)
            yield chunk


class Talk(MessagesState):
    tokens: int
    pace: float


async def talk(state: Talk, config: RunnableConfig) -> dict[str, Any]:
    model = Parrot(tokens=state["tokens"], pace=state["pace"])
    return {"messages": [await model.ainvoke(state["messages"], config)]}


tokens: CompiledStateGraph[Any, Any, Any, Any] = (
    StateGraph(Talk).add_node("talk", talk).add_edge(START, "talk").add_edge("talk", END).compile()
)


def _mark(run: str, number: int, phase: str) -> None:
    """A line `run step phase pid seconds`, if somebody wants to know. Processes share the machine's clock."""
    if path := os.environ.get("BENCH_MARKS"):
        line = f"{run} {number} {phase} {os.getpid()} {time.time():.6f}\n"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, line.encode())
        os.close(descriptor)
