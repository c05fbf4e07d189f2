"""An agent whose model says what it has cost, and whose tools answer, fail, or are told aside."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

from helm import helm
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableConfig, ensure_config
from langchain_core.tools import tool
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import RetryPolicy, Send, interrupt

PICTURE = "data:image/png;base64," + "iVBORw0KGgo" * 20


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    tools: list[str]


class Costly(BaseChatModel):
    """Answers with its name, or with calls of tools."""

    name: str
    tools: list[str] = []  # noqa: RUF012 - a field of pydantic's

    @property
    def _llm_type(self) -> str:
        return "costly"

    def _generate(self, messages: Any, *arguments: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError

    async def _agenerate(self, messages: Any, *arguments: Any, **kwargs: Any) -> ChatResult:
        await helm.begin(self.name, ensure_config())
        calls = [{"name": "look", "args": {"what": what}, "id": f"call-{what}"} for what in self.tools]
        message = AIMessage(
            self.name,
            tool_calls=calls,
            usage_metadata={
                "input_tokens": 10,
                "output_tokens": 5,
                "total_tokens": 15,
                "input_token_details": {"cache_read": 4},
                "output_token_details": {"reasoning": 2},
            },
            response_metadata={"model_name": "costly-1"},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


@tool
async def look(what: str) -> str:
    """Look."""
    await helm.begin(f"look:{what}", ensure_config())
    if what == "bad":
        raise ValueError("not there")
    return f"seen {what}"


async def _plan(state: State) -> dict:
    return {"messages": [await Costly(name="plan", tools=state["tools"]).ainvoke(state["messages"])]}


def _each(state: State) -> list[Send] | str:
    return [Send("use", call) for call in state["messages"][-1].tool_calls] or "answer"


async def _use(call: Any) -> dict:
    try:
        return {"messages": [await look.ainvoke({**call, "type": "tool_call"})]}
    except ValueError as error:
        return {"messages": [ToolMessage(str(error), tool_call_id=call["id"], status="error")]}


async def _answer(state: State) -> dict:
    await Costly(name="title").ainvoke(state["messages"], {"tags": ["middleware:title"]})
    said = await Costly(name="answer").ainvoke(state["messages"])
    await helm.begin("answered", ensure_config())
    return {"messages": [said]}


agent = (
    StateGraph(State)
    .add_node("plan", _plan)
    .add_node("use", _use)
    .add_node("answer", _answer)
    .add_edge(START, "plan")
    .add_conditional_edges("plan", _each, ["use", "answer"])
    .add_edge("use", "answer")
    .compile(name="agent")
)

nested = (
    StateGraph(State)
    .add_node("agent", agent)
    .add_node("thank", _answer)
    .add_edge(START, "agent")
    .add_edge("agent", "thank")
    .compile(name="nested")
)
"""The same inside a node, and something after it."""


async def _doubt(state: State) -> dict:
    said = await Costly(name="doubt").ainvoke([HumanMessage([{"type": "image_url", "image_url": PICTURE}])])
    answer = interrupt("sure?")
    return {"messages": [said, HumanMessage(answer)]}


doubts = StateGraph(State).add_node("doubt", _doubt).add_edge(START, "doubt").compile(name="doubts")

_INNER = {
    "doubts": StateGraph(State)
    .add_node("plan", _plan)
    .add_node("doubt", _doubt)
    .add_edge(START, "plan")
    .add_edge("plan", "doubt")
    .compile(name="inner")
}


async def _agent(state: State) -> dict:
    return await _INNER["doubts"].ainvoke(state)


nested_doubts = (
    StateGraph(State).add_node("agent", _agent).add_edge(START, "agent").compile(name="nested_doubts")
)
"""Asks in a graph that LangGraph finds in no node, behind what has been said there."""


async def _try(state: State, config: RunnableConfig) -> dict:
    said = await Costly(name="try").ainvoke(state["messages"])
    if helm.begun_by(config["metadata"]["run_id"]).count("try") == 1:
        raise ConnectionError("again")
    return {"messages": [said]}


tries = (
    StateGraph(State)
    .add_node("try", _try, retry_policy=RetryPolicy(initial_interval=0.01, max_attempts=2))
    .add_edge(START, "try")
    .compile(name="tries")
)
