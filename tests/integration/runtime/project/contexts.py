"""Graphs that use the context of their run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    seen: dict


@dataclass
class Context:
    system_prompt: str = "be kind"
    run_id: str = ""


@dataclass
class Strict:
    user: str


class Keys(TypedDict, total=False):
    prompt: str


async def changes(state: State, runtime: Runtime[Any]) -> dict:
    runtime.context["changed"] = True
    return {}


async def shows(state: State, runtime: Runtime[Any]) -> dict:
    context = runtime.context
    return {"seen": dict(context) if isinstance(context, dict) else asdict(context)}


def with_schema(schema: type[Any] | None, *nodes: Any) -> CompiledStateGraph:
    inner = StateGraph(State, context_schema=schema).add_node("shows", shows)
    inner.add_edge(START, "shows").add_edge("shows", END)
    shown = inner.compile()

    async def asks(state: State) -> dict:
        """A graph inside gets what its run has."""
        return {"seen": (await shown.ainvoke({}))["seen"]}

    builder = StateGraph(State, context_schema=schema)
    for before, node in zip((START, *(node.__name__ for node in nodes)), (*nodes, asks), strict=True):
        builder.add_node(node.__name__, node)
        builder.add_edge(before, node.__name__)
    return builder.add_edge("asks", END).compile()


defaults, strict, keys = with_schema(Context), with_schema(Strict), with_schema(Keys)
bare = with_schema(None, changes)
