"""The project's own context manager around each graph that is opened: there it may say whose run this is, in its own context variables."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from slackwater.errors import GraphImportError, RunContextFailed
from slackwater.identity.accounts.account import OWNER as ACCOUNT

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.pregel import Pregel
    from langgraph_sdk.runtime import AccessContext

    Graph = Pregel[Any, Any, Any, Any]

_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_STRANGE = re.compile(r"[^A-Za-z0-9_-]+")
_MADE = re.compile(r"-[0-9a-f]{24}")
"""How the ids end that are made here."""


@dataclass(frozen=True, slots=True)
class OpenedFor:
    """For whom a graph is opened, and what for. With `id`, it can take the place of a user."""

    id: str
    """The owner as letters, digits, `-` and `_`: a folder may be called so. Never the same for two owners."""
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


def safe_id(owner: str) -> str:
    """The owner as the name of a folder: that of an account is its id, and one that could be a name is itself."""
    of_account = owner.removeprefix(ACCOUNT)
    if of_account != owner and _is_uuid(of_account):
        return of_account
    if _PLAIN.fullmatch(owner) and not _is_uuid(owner) and not _MADE.fullmatch(owner[-25:]):
        return owner
    return f"{_STRANGE.sub('_', owner)[:40]}-{hashlib.sha256(owner.encode()).hexdigest()[:24]}"


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
