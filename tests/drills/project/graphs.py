"""Graphs that are stopped in the middle. Every node writes down that it starts and that it is done."""

from __future__ import annotations

import asyncio
import operator
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Annotated, Any

from effects import marker, record
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.store.base import BaseStore
from langgraph.types import Send, interrupt
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    """`sleep`: seconds of every node. `long`: seconds of the step, or of the node, `long_at` instead."""

    n: int
    sleep: float
    i: int
    long: float
    long_at: int | str
    kill_at: int
    gate: str
    """A file: the steps wait until it is there."""
    kill_once: str
    """A file that does not exist yet: the process kills itself only the first time. Without it, each time."""
    log: Annotated[list, operator.add]


Node = Callable[..., Any]


def _seconds(state: State, at: int | str) -> float:
    return (state.get("long") if at == state.get("long_at") else state.get("sleep")) or 0


def _next(state: State) -> int:
    return state.get("i", 0) + 1


# ------------------------------------------------------------ one after another


async def step(state: State, config: RunnableConfig) -> dict:
    i = _next(state)
    record(config, f"step-{i}", "start")
    if i == state.get("kill_at") and marker(state.get("kill_once")):
        os.kill(os.getpid(), signal.SIGKILL)
    while "gate" in state and not Path(state["gate"]).exists():
        await asyncio.sleep(0.01)
    await asyncio.sleep(_seconds(state, i))
    record(config, f"step-{i}", "done")
    get_stream_writer()({"step": i})
    return {"i": i, "log": [f"step-{i}"]}


def sync_step(state: State, config: RunnableConfig) -> dict:
    i = _next(state)
    record(config, f"step-{i}", "start")
    time.sleep(_seconds(state, i))
    record(config, f"step-{i}", "done")
    return {"i": i, "log": [f"step-{i}"]}


def _more(state: State) -> str:
    return "step" if state.get("i", 0) < state.get("n", 5) else END


def _looping(node: Node) -> CompiledStateGraph:
    return (
        StateGraph(State)
        .add_node("step", node)
        .add_edge(START, "step")
        .add_conditional_edges("step", _more, ["step", END])
        .compile()
    )


async def blocking_step(state: State, config: RunnableConfig) -> dict:
    """Holds the event loop: nothing in its process can stop it."""
    return sync_step(state, config)


async def keeping_step(state: State, config: RunnableConfig, store: BaseStore) -> dict:
    """Puts what it has done into the store."""
    done = await step(state, config)
    await store.aput((config["configurable"]["thread_id"],), f"step-{done['i']}", {"i": done["i"]})
    return done


line = _looping(step)
keeper = _looping(keeping_step)
sync_line = _looping(sync_step)
blocking_line = _looping(blocking_step)


# ------------------------------------------------------------------ side by side


class Task(TypedDict):
    number: int
    sleep: float
    sync: bool


def _send_all(state: State) -> list[Send]:
    sleep = state.get("sleep", 0)
    return [Send("work", {"number": n, "sleep": sleep * (n + 1)}) for n in range(state.get("n", 4))]


async def work(task: Task, config: RunnableConfig) -> dict:
    record(config, f"work-{task['number']}", "start")
    await asyncio.sleep(task["sleep"])
    record(config, f"work-{task['number']}", "done")
    return {"log": [f"work-{task['number']}"]}


def walk(name: str) -> Node:
    """A node that leaves its name."""

    async def node(state: State, config: RunnableConfig) -> dict:
        record(config, name, "start")
        await asyncio.sleep(_seconds(state, name))
        record(config, name, "done")
        get_stream_writer()({"at": name})
        return {"log": [name]}

    return node


crowd = (
    StateGraph(State)
    .add_node("plan", walk("plan"))
    .add_node("work", work)
    .add_node("join", walk("join"))
    .add_edge(START, "plan")
    .add_conditional_edges("plan", _send_all, ["work"])
    .add_edge("work", "join")
    .add_edge("join", END)
    .compile()
)


# ---------------------------------------------------------------------- subgraphs


def chain(*names: str, checkpointer: bool | None = None, **nodes: Any) -> CompiledStateGraph:
    """Nodes one after another; `nodes` replaces some of the walking ones."""
    builder = StateGraph(State)
    for before, name in zip((START, *names), names, strict=False):
        builder.add_node(name, nodes.get(name) or walk(name))
        builder.add_edge(before, name)
    builder.add_edge(names[-1], END)
    return builder.compile(checkpointer=checkpointer)


_INNER = ("inner-1", "inner-2", "inner-3")

nest = chain("first", "child", "last", child=chain(*_INNER))
nest_own = chain("first", "child", "last", child=chain(*_INNER, checkpointer=True))
deep = chain(
    "first", "child", "last", child=chain("outer-1", "grandchild", "outer-2", grandchild=chain(*_INNER))
)


# -------------------------------------------------------------------------- people

approve = chain("draft", "review", "publish", "report")
"""To be run with `interrupt_before=["publish"]`."""


async def ask(state: State, config: RunnableConfig) -> dict:
    """Asks twice: runs three times from its beginning, as LangGraph has it."""
    await asyncio.sleep(state.get("sleep") or 0)
    first = interrupt({"question": "first?"})
    await asyncio.sleep(state.get("sleep") or 0)
    second = interrupt({"question": "second?"})
    record(config, "ask", "done")
    return {"log": [f"{first}+{second}"]}


asking = chain("draft", "ask", "report", ask=ask)

deploy = chain("one", "two", "three", "four")
"""The next version of the project calls its third node otherwise."""


# -------------------------------------------------------------------------- tokens


class WordByWord(BaseChatModel):
    """Answers word by word."""

    delay: float = 0.0

    @property
    def _llm_type(self) -> str:
        return "word-by-word"

    def _reply(self, messages: list[BaseMessage]) -> str:
        return f"You said: {messages[-1].content if messages else ''}"[:60]

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(self._reply(messages)))])

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for n, word in enumerate(self._reply(messages).split(" ")):
            token = word if n == 0 else f" {word}"
            chunk = ChatGenerationChunk(message=AIMessageChunk(content=token))
            if run_manager:
                await run_manager.on_llm_new_token(token, chunk=chunk)
            await asyncio.sleep(self.delay)
            yield chunk


class TalkState(State, total=False):
    messages: Annotated[list[AnyMessage], add_messages]


def speaker(name: str) -> Node:
    async def node(state: TalkState, config: RunnableConfig) -> dict:
        record(config, name, "start")
        model = WordByWord(delay=(state.get("sleep") or 0) / 4)
        answer = await model.ainvoke(state["messages"], config)
        record(config, name, "done")
        return {"messages": [answer], "log": [name]}

    return node


def talking(*names: str, **nodes: Any) -> CompiledStateGraph:
    builder = StateGraph(TalkState)
    for before, name in zip((START, *names), names, strict=False):
        builder.add_node(name, nodes.get(name) or speaker(name))
        builder.add_edge(before, name)
    builder.add_edge(names[-1], END)
    return builder.compile()


talk = talking("greet", "team", "close", team=talking("think", "speak"))
"""Models in the root graph and in a subgraph."""
