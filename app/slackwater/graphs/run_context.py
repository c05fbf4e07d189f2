"""The project's own context manager around each graph that is opened: there it may say whose run this is, in its own context variables."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slackwater.errors import GraphImportError, RunContextFailed
from slackwater.identity.safe_id import safe_id

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.pregel import Pregel
    from langgraph_sdk.runtime import AccessContext

    Graph = Pregel[Any, Any, Any, Any]


@dataclass(frozen=True, slots=True)
class OpenedFor:
    """For whom a graph is opened, and what for. With `id`, it can take the place of a user."""

    id: str
    """The owner as the name of a folder, see `safe_id`. A run of the gateway's dialect has the same as `user_id` in its context."""
    owner: str
    graph_id: str
    thread_id: str | None
    run_id: str | None
    """None if the graph is only looked at."""
    access: AccessContext

    @classmethod
    def of(cls, owner: str, graph_id: str, config: RunnableConfig, access: AccessContext) -> OpenedFor:
        ids = config.get("configurable") or {}
        return cls(safe_id(owner), owner, graph_id, ids.get("thread_id"), ids.get("run_id"), access)


class RunContext:
    """What `run_context` names."""

    def __init__(self, function: Any, source: str) -> None:
        """Raises GraphImportError."""
        if not callable(function):
            kind = type(function).__name__
            raise GraphImportError(
                f"run_context ({source}): it is of type {kind}, not a function that returns a context manager."
            )
        self._function, self._source = function, source

    @asynccontextmanager
    async def around(
        self,
        building: AbstractAsyncContextManager[Graph],
        owner: str,
        graph_id: str,
        config: RunnableConfig,
        access: AccessContext,
    ) -> AsyncIterator[Graph]:
        """`building` in it. Raises RunContextFailed if it cannot be entered, and what `building` raises."""
        async with AsyncExitStack() as stack:
            try:
                await self._enter(stack, OpenedFor.of(owner, graph_id, config, access))
            except Exception as error:
                text = f"{type(error).__name__}: {error}".rstrip(": ")
                raise RunContextFailed(
                    f"run_context ({self._source}) could not be entered: {text}"
                ) from error
            async with building as graph:
                yield graph

    async def _enter(self, stack: AsyncExitStack, opened_for: OpenedFor) -> None:
        manager = self._function(opened_for)
        if inspect.isawaitable(manager):
            manager = await manager
        if hasattr(manager, "__aenter__"):
            await stack.enter_async_context(manager)
        elif hasattr(manager, "__enter__"):
            stack.enter_context(manager)
        else:
            raise TypeError(f"it returned a {type(manager).__name__}, not a context manager")
