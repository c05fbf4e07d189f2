"""Holds the nodes of subgraphs back until what was done before them is stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler

from slackwater.runtime.execution.checkpointer import RunSaver
from slackwater.runtime.execution.owning_loop import running_loop


class Pace(BaseCallbackHandler):
    """Waits for the checkpointer before each chain that LangGraph starts: the chunks of subgraphs wait for nobody.

    A property instead of a method, since what LangChain does with it depends on who looks it up. A coroutine function
    is awaited by async code, in whichever loop; sync code would run it in a loop made for it, and from the thread of
    the owning loop, as when an async node calls `chain.invoke`, that loop would wait for itself, for ever.
    """

    run_inline = True
    ignore_llm = ignore_chat_model = ignore_retriever = ignore_agent = ignore_custom_event = True

    def __init__(self, saver: RunSaver) -> None:
        self._saver = saver

    @property
    def on_chain_start(self) -> Callable[..., Any]:
        loop, saver, caller = self._saver.owning_loop, self._saver, running_loop()

        async def in_loop(*_: Any, **__: Any) -> None:
            if running_loop() is caller:
                await loop.run(saver.keep_up)

        def in_thread(*_: Any, **__: Any) -> None:
            loop.call(saver.keep_up)

        return in_thread if caller is None else in_loop
