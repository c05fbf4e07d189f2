"""The MCP servers of all owners, as the runtime sees them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

    from slackwater.runtime.execution.owning_loop import OwningLoop
    from slackwater.runtime.queue.lease import Lease


@dataclass(frozen=True, slots=True)
class McpCall:
    """A call of a tool that is about to be made."""

    server: str
    """The name of the server in the configuration."""
    tool: str
    """As the server calls it."""
    arguments: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent beside those of the configuration; to a server of the type `stdio` as `headers` in the call's `_meta`."""

    def override(self, **changes: Any) -> McpCall:
        """The same call but for these fields. It stays with its server, whose secrets are sent with it."""
        if "server" in changes:
            raise TypeError("a call of an MCP server cannot be made to another one")
        return replace(self, **changes)


McpHandler = Callable[[McpCall], Awaitable[Any]]
"""Makes a call; what it returns is the `CallToolResult` of the package `mcp`."""

McpInterceptor = Callable[[McpCall, McpHandler], Awaitable[Any]]
"""Stands between a tool and its server: it may change the call, make it again, or not at all."""


class RunMcp(Protocol):
    """The MCP servers for one attempt. Everything raises RunOver when the attempt is over, and works in the loop only."""

    @property
    def loop(self) -> OwningLoop:
        """Where it works."""

    async def tools(
        self, servers: Collection[str] | None, interceptors: Sequence[McpInterceptor]
    ) -> list[BaseTool]:
        """The tools of all servers that are on, or of those of these names that are."""


class NodeMcp(Protocol):
    """The MCP servers of all owners."""

    def of(self, owner: str, lease: Lease, loop: OwningLoop) -> RunMcp:
        """Those for a run of this owner. Nothing is done yet."""


current_mcp: ContextVar[RunMcp | None] = ContextVar("current_mcp", default=None)
"""Those for the run that the running code belongs to."""
