"""The graphs that every test may run. Deterministic, without the network, all nodes `async`.

The first part are the graphs that a LangGraph server's conformance is checked with: node names, state keys and
outputs are a contract. The second part adds the shapes that are hard to stop and to go on with.
"""

from __future__ import annotations

import asyncio
import json
import operator
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore
from langgraph.types import Command, Send, interrupt
from typing_extensions import TypedDict

# --------------------------------------------------------------------- echo


class EchoState(TypedDict, total=False):
    text: str
    echo: str
    context_seen: dict
    configurable_seen: dict
    metadata_seen: dict


class EchoContext(TypedDict, total=False):
    prefix: str
    suffix: str


SHOWN = ("marker", "prefix", "suffix", "x-test", "thread_id", "graph_id")


async def echo_node(state: EchoState, config: RunnableConfig, runtime: Runtime[EchoContext]) -> dict:
    context = dict(runtime.context or {})
    configurable = config.get("configurable") or {}
    metadata = config.get("metadata") or {}
    return {
        "echo": f"{context.get('prefix', '')}{state.get('text', '')}{context.get('suffix', '')}",
        "context_seen": {key: value for key, value in context.items() if isinstance(value, str)},
        "configurable_seen": {
            key: value for key, value in configurable.items() if key in SHOWN and isinstance(value, str)
        },
        "metadata_seen": {
            key: value
            for key, value in metadata.items()
            if isinstance(value, (str, int)) and not key.startswith("langgraph_")
        },
    }


echo = (
    StateGraph(EchoState, context_schema=EchoContext)
    .add_node("echo", echo_node)
    .add_edge(START, "echo")
    .add_edge("echo", END)
    .compile()
)


# -------------------------------------------------------------------- steps


class StepsState(TypedDict, total=False):
    n: int
    sleep: float
    i: int
    log: Annotated[list, operator.add]
    done: bool


async def step_node(state: StepsState) -> dict:
    if state.get("sleep"):
        await asyncio.sleep(state["sleep"])
    i = state.get("i", 0) + 1
    get_stream_writer()({"step": i, "of": state.get("n", 1)})
    return {"i": i, "log": [f"step-{i}"]}


async def finish_node(state: StepsState) -> dict:
    return {"done": True}


def more_steps(state: StepsState) -> str:
    return "step" if state.get("i", 0) < state.get("n", 1) else "finish"


steps = (
    StateGraph(StepsState)
    .add_node("step", step_node)
    .add_node("finish", finish_node)
    .add_edge(START, "step")
    .add_conditional_edges("step", more_steps, ["step", "finish"])
    .add_edge("finish", END)
    .compile()
)


# --------------------------------------------------------------------- chat


class FakeStreamModel(BaseChatModel):
    """A chat model that answers 'You said: <last human text>' word by word."""

    delay: float = 0.0

    @property
    def _llm_type(self) -> str:
        return "fake-stream"

    def _reply(self, messages: list[BaseMessage]) -> str:
        last = messages[-1].content if messages else ""
        return f"You said: {last}"

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
            token = word if n == 0 else " " + word
            chunk = ChatGenerationChunk(message=AIMessageChunk(content=token))
            if run_manager:
                await run_manager.on_llm_new_token(token, chunk=chunk)
            if self.delay:
                await asyncio.sleep(self.delay)
            yield chunk


class ChatState(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    delay: float


async def chat_node(state: ChatState, config: RunnableConfig) -> dict:
    model = FakeStreamModel(delay=state.get("delay") or 0.0)
    return {"messages": [await model.ainvoke(state["messages"], config)]}


chat = (
    StateGraph(ChatState)
    .add_node("model", chat_node)
    .add_edge(START, "model")
    .add_edge("model", END)
    .compile()
)


# --------------------------------------------------------------------- hitl


class HitlState(TypedDict, total=False):
    text: str
    answers: Annotated[list, operator.add]
    questions: int
    result: str


async def ask_node(state: HitlState) -> dict:
    """Ask `questions` times (default 1), one interrupt() after another."""
    text, questions = state.get("text", ""), state.get("questions") or 1
    return {"answers": [interrupt({"question": f"approve {text}?", "n": n}) for n in range(questions)]}


async def after_node(state: HitlState) -> dict:
    return {"result": f"{state.get('text', '')}:{state['answers'][-1]}"}


hitl = (
    StateGraph(HitlState)
    .add_node("ask", ask_node)
    .add_node("after", after_node)
    .add_edge(START, "ask")
    .add_edge("ask", "after")
    .add_edge("after", END)
    .compile()
)


# --------------------------------------------------------------------- fail


class FailState(TypedDict, total=False):
    text: str
    ok: bool
    before: str
    message: str


async def before_node(state: FailState) -> dict:
    return {"before": "ran"}


async def boom_node(state: FailState) -> dict:
    if state.get("ok"):
        return {"message": "no failure"}
    raise ValueError(f"boom: {state.get('text', '')}")


fail = (
    StateGraph(FailState)
    .add_node("before", before_node)
    .add_node("boom", boom_node)
    .add_edge(START, "before")
    .add_edge("before", "boom")
    .add_edge("boom", END)
    .compile()
)


# -------------------------------------------------------------------- tools


class ToolsState(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]


class FakeToolModel(FakeStreamModel):
    """Calls the tool `add` once on 'add A B', then reports the tool's answer."""

    def _message(self, messages: list[BaseMessage]) -> AIMessage:
        last = messages[-1]
        if isinstance(last, ToolMessage):
            return AIMessage(f"The answer is {last.content}")
        words = str(last.content).split()
        if words[:1] == ["add"] and len(words) == 3:
            args = {"a": int(words[1]), "b": int(words[2])}
            return AIMessage("", tool_calls=[{"name": "add", "args": args, "id": "call_add_1"}])
        return AIMessage("nothing to do")

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._message(messages))])

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        message = self._message(messages)
        for call in message.tool_calls:
            parts = [
                {"name": call["name"], "args": "", "id": call["id"], "index": 0},
                {"name": None, "args": json.dumps(call["args"]), "id": None, "index": 0},
            ]
            for part in parts:
                yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=[part]))
        if not message.tool_calls:
            for n, word in enumerate(str(message.content).split(" ")):
                yield ChatGenerationChunk(message=AIMessageChunk(content=word if n == 0 else " " + word))


async def agent_node(state: ToolsState, config: RunnableConfig) -> dict:
    return {"messages": [await FakeToolModel().ainvoke(state["messages"], config)]}


async def tools_node(state: ToolsState) -> dict:
    return {
        "messages": [
            ToolMessage(
                content=str(call["args"]["a"] + call["args"]["b"]), name=call["name"], tool_call_id=call["id"]
            )
            for call in state["messages"][-1].tool_calls
        ]
    }


def route_tools(state: ToolsState) -> str:
    return "tools" if getattr(state["messages"][-1], "tool_calls", None) else END


tools = (
    StateGraph(ToolsState)
    .add_node("agent", agent_node)
    .add_node("tools", tools_node)
    .add_edge(START, "agent")
    .add_conditional_edges("agent", route_tools, ["tools", END])
    .add_edge("tools", "agent")
    .compile()
)


# ----------------------------------------------------------------- subgraph


class SubState(TypedDict, total=False):
    text: str
    trail: Annotated[list, operator.add]
    ask: bool
    answer: str


async def inner_one(state: SubState) -> dict:
    get_stream_writer()({"at": "inner_one"})
    return {"trail": ["inner_one"]}


async def inner_two(state: SubState) -> dict:
    if state.get("ask"):
        return {"trail": ["inner_two"], "answer": interrupt({"from": "inner_two"})}
    return {"trail": ["inner_two"]}


_inner = (
    StateGraph(SubState)
    .add_node("inner_one", inner_one)
    .add_node("inner_two", inner_two)
    .add_edge(START, "inner_one")
    .add_edge("inner_one", "inner_two")
    .add_edge("inner_two", END)
    .compile()
)


async def outer_start(state: SubState) -> dict:
    return {"trail": ["outer_start"]}


async def outer_end(state: SubState) -> dict:
    return {"trail": ["outer_end"]}


subgraph = (
    StateGraph(SubState)
    .add_node("outer_start", outer_start)
    .add_node("child", _inner)
    .add_node("outer_end", outer_end)
    .add_edge(START, "outer_start")
    .add_edge("outer_start", "child")
    .add_edge("child", "outer_end")
    .add_edge("outer_end", END)
    .compile()
)


# -------------------------------------------------------------------- store


class StoreState(TypedDict, total=False):
    user: str
    key: str
    value: str
    previous: Any
    count: int


async def store_node(state: StoreState, *, store: BaseStore) -> dict:
    namespace = ("graph-memory", state.get("user", "anon"))
    old = await store.aget(namespace, state["key"])
    await store.aput(namespace, state["key"], {"v": state.get("value")})
    items = await store.asearch(namespace, limit=100)
    return {"previous": old.value if old else None, "count": len(items)}


store = (
    StateGraph(StoreState)
    .add_node("remember", store_node)
    .add_edge(START, "remember")
    .add_edge("remember", END)
    .compile()
)


# ------------------------------------------------------------------ factory


class FactoryState(TypedDict, total=False):
    text: str
    out: str


async def factory(config: RunnableConfig) -> CompiledStateGraph:
    """Build the graph from the run's config: `flavor` names the node and the output."""
    flavor = (config.get("configurable") or {}).get("flavor") or "plain"

    async def work(state: FactoryState) -> dict:
        return {"out": f"{flavor}:{state.get('text', '')}"}

    return (
        StateGraph(FactoryState)
        .add_node(f"work_{flavor}", work)
        .add_edge(START, f"work_{flavor}")
        .add_edge(f"work_{flavor}", END)
        .compile()
    )


# ------------------------------------------------- shapes that are hard to stop


class TrailState(TypedDict, total=False):
    text: str
    sleep: float
    trail: Annotated[list, operator.add]


Node = Callable[..., Any]


def walk(name: str, turns: int = 1) -> Node:
    """A node that gives way `turns` times (or sleeps `sleep` seconds), says so, and leaves its name."""

    async def node(state: TrailState) -> dict:
        for _ in range(turns):
            await asyncio.sleep(state.get("sleep") or 0)
        get_stream_writer()({"at": name})
        return {"trail": [name]}

    return node


def chain(*names: str, checkpointer: bool | None = None, **nodes: Any) -> CompiledStateGraph:
    """Nodes one after another; `nodes` replaces some of the walking ones, by a subgraph for example."""
    builder = StateGraph(TrailState)
    for before, name in zip((START, *names), names, strict=False):
        builder.add_node(name, nodes.get(name) or walk(name))
        builder.add_edge(before, name)
    builder.add_edge(names[-1], END)
    return builder.compile(checkpointer=checkpointer)


async def quiet_node(state: TrailState) -> None:
    """Writes nothing, so its superstep has no `values`."""


quiet = chain("first", "quiet", "silent", "last", quiet=quiet_node, silent=quiet_node)

_grandchild = chain("deep_one", "deep_two")
_child = chain("inner_one", "middle", "inner_three", middle=_grandchild)

tree = chain("first", "child", "last", child=_child)
"""Subgraphs in two levels."""

aside = chain("first", "child", "last", child=chain("inner_one", "inner_two", checkpointer=False))
"""A subgraph that keeps no checkpoints."""

memory = chain("first", "child", "last", child=chain("inner_one", "inner_two", checkpointer=True))
"""A subgraph that keeps its state from one call to the next."""


async def call_node(state: TrailState, config: RunnableConfig) -> dict:
    """Calls a subgraph twice by itself: the second call has a namespace of its own."""
    one = await _grandchild.ainvoke({"trail": []}, config)
    two = await _grandchild.ainvoke({"trail": []}, config)
    return {"trail": [*one["trail"], *two["trail"]]}


calls = chain("first", "caller", "last", caller=call_node)


def fan_out(**branches: Any) -> CompiledStateGraph:
    builder = StateGraph(TrailState).add_node("first", walk("first")).add_node("last", walk("last"))
    for name, node in branches.items():
        builder.add_node(name, node)
        builder.add_edge("first", name)
    builder.add_edge(START, "first")
    builder.add_edge(list(branches), "last")
    builder.add_edge("last", END)
    return builder.compile()


fan = fan_out(child=chain("inner_one", "inner_two", "inner_three"), quick=walk("quick"), slow=walk("slow", 9))
"""Three nodes in one superstep, one of them a subgraph with supersteps of its own."""


def ask(name: str) -> Node:
    async def node(state: TrailState) -> dict:
        return {"trail": [f"{name}:{interrupt({'from': name})}"]}

    return node


panel = fan_out(
    ask_one=ask("one"), ask_two=ask("two"), child=chain("inner_one", "inner_two"), quick=walk("quick")
)
"""Two questions in one superstep, beside a node and a subgraph that finish."""

asking = chain(
    "first", "child", "last", child=chain("inner_one", "inner_two", "inner_three", inner_two=ask("inner_two"))
)
"""A question from within a subgraph."""


class CrowdState(TypedDict, total=False):
    n: int
    log: Annotated[list, operator.add]


def send_all(state: CrowdState) -> list[Send]:
    return [Send("work", {"n": n, "log": []}) for n in range(state.get("n", 3))]


async def work_node(state: CrowdState) -> dict:
    await asyncio.sleep(0)
    return {"log": ["worked"]}


class CrewReport(TypedDict):
    log: list


_worker = (
    StateGraph(CrowdState, output_schema=CrewReport)
    .add_node("prepare", work_node)
    .add_node("finish", work_node)
    .add_edge(START, "prepare")
    .add_edge("prepare", "finish")
    .compile()
)


async def plan_node(state: CrowdState) -> dict:
    return {"log": ["planned"]}


def crowd_of(worker: Any) -> CompiledStateGraph:
    return (
        StateGraph(CrowdState)
        .add_node("plan", plan_node)
        .add_node("work", worker)
        .add_node("join", plan_node)
        .add_edge(START, "plan")
        .add_conditional_edges("plan", send_all, ["work"])
        .add_edge("work", "join")
        .add_edge("join", END)
        .compile()
    )


crowd = crowd_of(work_node)
"""`n` tasks of the same node in one superstep, with equal updates."""

crews = crowd_of(_worker)
"""`n` runs of the same subgraph in one superstep."""


class SayState(TypedDict, total=False):
    text: str


async def polish_node(state: SayState) -> dict:
    """Sees no messages."""
    return {"text": "polished"}


class TalkState(ChatState, total=False):
    text: str


_talker = (
    StateGraph(TalkState)
    .add_node("model", chat_node)
    .add_node("polish", polish_node, input_schema=SayState)
    .add_edge(START, "model")
    .add_edge("model", "polish")
    .add_edge("polish", END)
    .compile()
)


async def thank_node(state: TalkState) -> dict:
    return {"messages": [AIMessage("Thank you", id="thanks")]}


talk = (
    StateGraph(TalkState)
    .add_node("child", _talker)
    .add_node("thank", thank_node)
    .add_node("agent", chat_node)
    .add_edge(START, "child")
    .add_edge("child", "thank")
    .add_edge("thank", "agent")
    .add_edge("agent", END)
    .compile()
)
"""A model in a subgraph, a finished message, a model in the root graph."""


async def choose_node(state: TrailState) -> Command:
    return Command(update={"trail": ["choose"]}, goto="last")


jump = (
    StateGraph(TrailState)
    .add_node("choose", choose_node, destinations=("last", "never"))
    .add_node("never", walk("never"))
    .add_node("last", walk("last"))
    .add_edge(START, "choose")
    .add_edge("never", END)
    .add_edge("last", END)
    .compile()
)
"""A node that says itself where to go on."""


@task
async def double(n: int) -> int:
    await asyncio.sleep(0)
    return n * 2


@entrypoint()
async def flow(numbers: list[int]) -> dict:
    """The functional API: no superstep of its own but the whole."""
    return {"doubled": [await double(n) for n in numbers]}
