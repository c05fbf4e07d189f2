"""An agent that asks a model in each superstep, or a tool, and appends to a file what it has been told: in two halves."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages

from slackwater.files import auser_data
from slackwater.mcp import atools


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    n: int
    total: int
    gate: str
    half: int
    """The superstep in which half of the file is written, and no more: the first time."""
    hold: int
    """The superstep that ends when it is told to."""
    ask: int
    """The superstep in which `tool` is asked."""
    tool: str
    arguments: dict[str, int]


class Costly(BaseChatModel):
    """Says what it is asked to say, and what that has cost."""

    says: str

    @property
    def _llm_type(self) -> str:
        return "costly"

    def _generate(self, messages: Any, *arguments: Any, **kwargs: Any) -> ChatResult:
        usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
        said = AIMessage(self.says, usage_metadata=usage, response_metadata={"model_name": "costly-1"})
        return ChatResult(generations=[ChatGeneration(message=said)])


async def write(state: State) -> dict[str, Any]:
    n, folder, gate = state.get("n", 0), await auser_data(), Path(state["gate"])
    report = folder / "outputs" / "report.txt"
    found = report.read_text() if report.exists() else ""
    if found != "".join(f"<{k}>" for k in range(n)):
        raise ValueError(f"step {n} has found {found}")
    answer = await Costly(says=f"step {n}").ainvoke(state["messages"])
    with report.open("a") as file:
        file.write(f"<{n}")
        file.flush()
        if n == state.get("half") and not (gate / f"half-{n}").exists():
            (gate / f"half-{n}").touch()
            await asyncio.sleep(3600)
        file.write(">")
    if n == state.get("hold"):
        (gate / f"hold-{n}").touch()
        while not (gate / "go").exists():
            await asyncio.sleep(0.02)
    if n == state.get("ask"):
        (tool,) = [tool for tool in await atools() if tool.name == state["tool"]]
        await tool.ainvoke(state.get("arguments", {}))
    return {"messages": [answer], "n": n + 1}


def more(state: State) -> str:
    return "write" if state["n"] < state["total"] else END


graph = StateGraph(State).add_node("write", write).add_edge(START, "write")
writer = graph.add_conditional_edges("write", more, ["write", END]).compile()
