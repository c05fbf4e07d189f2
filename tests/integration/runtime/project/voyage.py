"""Small graphs whose every node says when it begins and when it is done, and can be held by a test."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Annotated, Any

from helm import helm
from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Send, interrupt
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    log: Annotated[list, operator.add]
    n: int
    note: str


Node = Callable[..., Any]


def walk(name: str) -> Node:
    async def node(state: State, config: RunnableConfig) -> dict:
        await helm.begin(name, config)
        get_stream_writer()({"at": name})
        helm.done(name, config)
        return {"log": [name]}

    return node


def walk_sync(name: str) -> Node:
    def node(state: State, config: RunnableConfig) -> dict:
        helm.begin_sync(name, config)
        helm.done(name, config)
        return {"log": [name]}

    return node


def chain(*names: str, checkpointer: bool | None = None, **nodes: Any) -> CompiledStateGraph:
    """Nodes one after another; `nodes` replaces some of the walking ones."""
    builder = StateGraph(State)
    for before, name in zip((START, *names), names, strict=False):
        builder.add_node(name, nodes.get(name) or walk(name))
        builder.add_edge(before, name)
    builder.add_edge(names[-1], END)
    return builder.compile(checkpointer=checkpointer)


line = chain("a", "b", "c", "d")
sync_line = chain("a", "s", "c", s=walk_sync("s"))
nest = chain("a", "child", "z", child=chain("in_1", "in_2", "in_3"))
keeps = chain("a", "child", "z", child=chain("in_1", "in_2", checkpointer=True))


class Part(TypedDict):
    number: int


async def work(part: Part, config: RunnableConfig) -> dict:
    name = f"work_{part['number']}"
    await helm.begin(name, config)
    helm.done(name, config)
    return {"log": [name]}


def send_all(state: State) -> list[Send]:
    return [Send("work", {"number": n}) for n in range(state.get("n", 3))]


fan = (
    StateGraph(State)
    .add_node("plan", walk("plan"))
    .add_node("work", work)
    .add_node("join", walk("join"))
    .add_edge(START, "plan")
    .add_conditional_edges("plan", send_all, ["work"])
    .add_edge("work", "join")
    .add_edge("join", END)
    .compile()
)


def joining(last: str) -> CompiledStateGraph:
    return (
        StateGraph(State)
        .add_node("left", walk("left"))
        .add_node("right", walk("right"))
        .add_node(last, walk(last))
        .add_edge(START, "left")
        .add_edge(START, "right")
        .add_edge(["left", "right"], last)
        .add_edge(last, END)
        .compile()
    )


joined = joining("both")
"""Two nodes beside each other, and one that waits for both."""

jump = (
    StateGraph(State)
    .add_node("a", walk("a"))
    .add_node("b", walk("b"))
    .add_node("c", walk("c"))
    .add_edge(START, "a")
    .add_edge("b", "c")
    .compile()
)
"""`b` is reached only by `Command(goto="b")`."""


def asking(name: str, questions: int = 1) -> Node:
    async def node(state: State, config: RunnableConfig) -> dict:
        await helm.begin(name, config)
        answers = []
        for n in range(questions):
            answers.append(interrupt({"from": name, "n": n}))
            await helm.begin(f"{name}_after_{n}", config)
        helm.done(name, config)
        return {"log": [f"{name}:{'+'.join(map(str, answers))}"]}

    return node


ask = chain("a", "q", "z", q=asking("q"))
ask_twice = chain("a", "q", "z", q=asking("q", 2))
ask_nested = chain("a", "child", "z", child=chain("in_1", "q", "in_3", q=asking("q")))
gated = chain("a", "b", "c", "d")
"""To be run with static breakpoints."""


async def turn(state: State, config: RunnableConfig) -> dict:
    number = len(state.get("log") or []) + 1
    await helm.begin(f"turn_{number}", config)
    helm.done(f"turn_{number}", config)
    return {"log": [f"turn_{number}"]}


def again(state: State) -> str:
    return "turn" if len(state["log"]) < state.get("n", 3) else END


loop = (
    StateGraph(State)
    .add_node("turn", turn)
    .add_edge(START, "turn")
    .add_conditional_edges("turn", again, ["turn", END])
    .compile()
)


async def fails(state: State, config: RunnableConfig) -> dict:
    await helm.begin("fails", config)
    raise ValueError("boom")


boom = chain("a", "fails", "z", fails=fails)


async def ignores(state: State, config: RunnableConfig) -> dict:
    """A node that does not let itself be cancelled."""
    from helm import ignore_cancellation

    await ignore_cancellation(config)
    helm.done("ignores", config)
    return {"log": ["ignores"]}


stubborn = chain("a", "ignores", "z", ignores=ignores)


async def goes_wrong(state: State, config: RunnableConfig) -> dict:
    """A node whose library turns a cancellation into an error of its own."""
    try:
        await helm.begin("goes_wrong", config)
    except BaseException as error:
        raise ConnectionError("closed") from error
    helm.done("goes_wrong", config)
    return {"log": ["goes_wrong"]}


flaky = chain("a", "goes_wrong", "z", goes_wrong=goes_wrong)


async def made(config: RunnableConfig) -> CompiledStateGraph:
    """A factory, which a test can let fail or hang."""
    await helm.begin("factory", config)
    return line
