"""Graphs that show who they act for."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any

from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore
from langgraph_sdk.runtime import ServerRuntime
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    text: str
    sleep: float
    seen: dict[str, Any]
    trail: Annotated[list[str], operator.add]


def shown(user: Any) -> Any:
    """A user, asked in every way that a `BaseUser` may be."""
    if user is None:
        return None
    fields = {key: user[key] for key in user}
    return {
        "identity": user.identity,
        "display_name": user.display_name,
        "is_authenticated": user.is_authenticated,
        "fields": {key: fields[key] for key in sorted(fields)},
        "has_team": "team" in user,
        "team": getattr(user, "team", None),
        "permissions": list(getattr(user, "permissions", [])),
        "got": user.get("team", "no team") if hasattr(user, "get") else None,
        "org": getattr(getattr(user, "org", None), "name", None),
    }


def look(state: State, config: RunnableConfig, runtime: Runtime) -> State:
    configurable = config["configurable"]
    info = runtime.server_info
    return {
        "seen": {
            "user": shown(configurable.get("langgraph_auth_user")),
            "id": configurable.get("langgraph_auth_user_id"),
            "permissions": configurable.get("langgraph_auth_permissions"),
            "user_id": configurable.get("user_id"),
            "model": configurable.get("model"),
            "tags": config.get("tags"),
            "owner": config["metadata"].get("owner"),
            "info": shown(info.user) if info is not None else None,
        },
        "trail": [state.get("text", "")],
    }


def one_node(function: Any) -> StateGraph:
    return StateGraph(State).add_node("node", function).add_edge(START, "node").add_edge("node", END)


who = one_node(look).compile()


async def sleep(state: State) -> State:
    await asyncio.sleep(state.get("sleep") or 0)
    return {"trail": ["slept"]}


nap = one_node(sleep).compile()


async def keep(state: State, config: RunnableConfig, *, store: BaseStore) -> State:
    """Writes into the store as the graph may: no handler is asked."""
    identity = config["configurable"]["langgraph_auth_user_id"]
    await store.aput((identity, "kept"), state.get("text", ""), {"owner": identity})
    found = await store.asearch((identity, "kept"))
    return {"trail": [item.key for item in found]}


keeps = one_node(keep).compile()


class Talk(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


def say(state: Talk, config: RunnableConfig) -> dict[str, Any]:
    return {"messages": [AIMessage(f"I am {config['configurable']['langgraph_auth_user_id']}")]}


talk = StateGraph(Talk).add_node("say", say).add_edge(START, "say").add_edge("say", END).compile()


def made(config: RunnableConfig, runtime: ServerRuntime) -> StateGraph:
    """A factory, which is told who looks at its graph as well as who runs it."""

    def show(state: State) -> State:
        return {"seen": {"access": runtime.access_context, "user": shown(runtime.user)}}

    graph = one_node(show)
    name = getattr(runtime.user, "identity", "nobody").partition("-")[0]
    # The drawing of the graph says whom it was made for.
    graph.add_node(f"for {name}", lambda state: {})
    return graph


async def ask(state: State) -> State:
    """Calls the API, as whoever it acts for."""
    from langgraph_sdk import get_client

    found = await get_client().threads.search(limit=100)
    return {"trail": sorted(thread["thread_id"] for thread in found)}


asks = one_node(ask).compile()
