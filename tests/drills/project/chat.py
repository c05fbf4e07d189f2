"""A conversation as a front end has it: answers that come word by word, and a question to a person."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from effects import record
from graphs import WordByWord
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import interrupt
from typing_extensions import TypedDict

TOKEN_SECONDS = 0.06


class ChatState(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]


class Says(WordByWord):
    """Says its text, and repeats nothing of what it was asked."""

    text: str
    delay: float = TOKEN_SECONDS

    def _reply(self, messages: list[BaseMessage]) -> str:
        return self.text

    async def _agenerate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        """As long in its saying when nobody listens."""
        await asyncio.sleep(self.delay * len(self.text.split(" ")))
        return ChatResult(generations=[ChatGeneration(message=AIMessage(self.text))])


TEXTS = {
    "answer": "The tide turns twice a day, and between the two there is slack water.",
    "explain": "Then nothing pulls at the boat: whoever has to change the helmsman does it now.",
    "compare": "Ashore it is the moment between two shifts, when the hall is quiet.",
    "warn": "It does not last: in a few minutes the tide sets in from the other side.",
    "close": "So nobody on board has to notice, and the voyage goes on.",
}
"""What each node says: in less than a second, so that it can end after a SIGTERM; all of it in some more."""


def saying(name: str) -> Any:
    async def node(state: ChatState, config: RunnableConfig) -> dict:
        record(config, name, "start")
        said = await Says(text=TEXTS[name]).ainvoke(state["messages"], config)
        record(config, name, "done")
        return {"messages": [said]}

    return node


def approve(state: ChatState, config: RunnableConfig) -> dict:
    """Asks a person before anything is made public."""
    decision = interrupt({"question": "Shall I publish this?"})
    record(config, "approve", "done")
    return {"messages": [{"role": "assistant", "content": f"You decided: {decision}."}]}


def _wants_publishing(state: ChatState) -> str:
    last = next(message for message in reversed(state["messages"]) if message.type == "human")
    return "approve" if "publish" in str(last.content) else "explain"


chat = (
    StateGraph(ChatState)
    .add_node("answer", saying("answer"))
    .add_node("approve", approve)
    .add_node("explain", saying("explain"))
    .add_node("compare", saying("compare"))
    .add_node("warn", saying("warn"))
    .add_node("close", saying("close"))
    .add_edge(START, "answer")
    .add_conditional_edges("answer", _wants_publishing, ["approve", "explain"])
    .add_edge("approve", "close")
    .add_edge("explain", "compare")
    .add_edge("compare", "warn")
    .add_edge("warn", "close")
    .add_edge("close", END)
    .compile()
)
