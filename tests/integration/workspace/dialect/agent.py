"""An agent that answers at once, or does what the last message says: `fan` out, `wait:` for a file, be `slow`, `ask`, `fail`, or fall back."""

from __future__ import annotations

import asyncio
import json
import operator
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.runtime import Runtime
from langgraph.types import interrupt


def _last(left: Any, right: Any) -> Any:
    return right if right is not None else left


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    steps: Annotated[list[str], operator.add]
    title: Annotated[str | None, _last]
    artifacts: list[str]
    told: dict[str, Any]


async def model(state: State, runtime: Runtime[Any], config: RunnableConfig) -> dict[str, Any]:
    text = state["messages"][-1].text if state["messages"] else ""
    context: Any = runtime.context
    context["seen"] = True  # it can be changed
    configurable = {k: v for k, v in config["configurable"].items() if isinstance(v, str | int | bool | dict)}
    told = {"context": dict(context), "configurable": json.loads(json.dumps(configurable, default=str))}
    if text.startswith("wait:"):
        gate = Path(text.removeprefix("wait:"))
        while not gate.exists():
            await asyncio.sleep(0.02)
    if text.startswith("slow"):
        step = len(state.get("steps", ()))
        await asyncio.sleep(0.15)
        if step < 12:
            return {"steps": [f"{step}"], "told": told}
    if text == "ask":
        interrupt("Shall I?")
    if text == "fail":
        raise ValueError("the tide is out")
    more = (
        {"deerflow_error_fallback": True, "error_detail": "the model is away"} if text == "fallback" else {}
    )
    return {"messages": [AIMessage(f"answer to {text}", additional_kwargs=more)], "told": told}


async def title(state: State) -> dict[str, Any]:
    return {}


def after(state: State) -> Any:
    if state["messages"][-1].type == "human":
        return "model"
    return ["left", "right", "title"] if state["messages"][-2].text == "fan" else END


builder = StateGraph(State)
builder.add_node("model", model)
for name in ("left", "right", "title"):
    builder.add_node(name, title)
builder.add_edge(START, "model")
builder.add_conditional_edges("model", after, ["model", "left", "right", "title", END])
graph = builder.compile(name="lead_agent")
other = builder.compile(name="other")
