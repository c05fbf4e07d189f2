"""Nodes that outlive their attempt, and try to write to the store."""

from __future__ import annotations

from typing import Any

from helm import helm, ignore_cancellation
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.store.base import BaseStore
from voyage import State, chain


async def stubborn_notes(state: State, config: RunnableConfig, *, store: BaseStore) -> dict:
    await store.aput(("notes",), "before", {"by": "stubborn"})
    await ignore_cancellation(config)
    for write in (
        lambda: store.aput(("notes",), "after", {"by": "stubborn"}),
        lambda: store.aget(("notes",), "before"),
        lambda: store.adelete(("notes",), "before"),
    ):
        try:
            await write()
        except Exception as error:
            helm.errors.append(error)
    helm.done("notes", config)
    return {"log": ["notes"]}


def sync_notes(state: State, config: RunnableConfig, *, store: BaseStore) -> dict:
    store.put(("notes",), "before", {"by": "sync"})
    helm.begin_sync("s", config)
    for write in (
        lambda: store.put(("notes",), "after", {"by": "sync"}),
        lambda: store.search(("notes",)),
        lambda: store.delete(("notes",), "before"),
    ):
        try:
            write()
        except Exception as error:
            helm.errors.append(error)
    helm.done("s", config)
    return {"log": ["notes"]}


keeps_notes = chain("notes", "z", notes=stubborn_notes)
keeps_notes_sync = chain("s", "z", s=sync_notes)


class Hook(AsyncCallbackHandler):
    """Is called when the graph has ended, and can be held then."""

    async def on_chain_end(self, outputs: Any, *, parent_run_id: Any = None, **kwargs: Any) -> None:
        if parent_run_id is None:
            await helm.begin("hook", {})


hooked = chain("a").with_config(callbacks=[Hook()])


async def apart(state: State, config: RunnableConfig) -> dict:
    """Calls something that its own handlers are told of as if nothing was around it, and goes on."""
    handlers = config["callbacks"].handlers
    await RunnableLambda(lambda said: said).ainvoke("?", {"callbacks": handlers})
    await helm.begin("apart", config)
    return {"log": ["apart"]}


hooked_apart = chain("apart", "z", apart=apart).with_config(callbacks=[AsyncCallbackHandler()])
