"""As little as a project may be: a server of it starts fast."""

from __future__ import annotations

from typing import Any

from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    text: str


def node(state: State) -> dict[str, Any]:
    return {}


graph = StateGraph(State).add_node("node", node).add_edge(START, "node").compile()
