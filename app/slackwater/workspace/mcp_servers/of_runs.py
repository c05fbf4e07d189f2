"""What nodes have of MCP servers: LangChain tools that call them, in the name of the run's owner where a server wants to know."""

from __future__ import annotations

import asyncio
import copy
import logging
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from slackwater.errors import SlackwaterError
from slackwater.identity import internal
from slackwater.identity.scopes import KeyScope
from slackwater.postgres.pool import Database
from slackwater.runtime.execution.node_mcp import McpCall, McpHandler, McpInterceptor
from slackwater.runtime.execution.owning_loop import OwningLoop
from slackwater.runtime.queue.lease import Lease
from slackwater.workspace.mcp_servers import connection
from slackwater.workspace.mcp_servers.catalog import McpCatalog, reason_of
from slackwater.workspace.mcp_servers.models import McpServer
from slackwater.workspace.of_run import OfRun

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

    from slackwater.identity.signing.service import Signing

log = logging.getLogger(__name__)

CALL_SECONDS = 120.0
"""How long a call may take, unless the server's `tool_call_timeout` says otherwise."""

TOKEN_SECONDS = 60.0

TOKEN_HEADER = "x-slackwater-token"  # noqa: S105 - its name

NAME_CHARACTERS = 64
"""Models' providers take no longer names of tools."""

_OTHERS = re.compile(r"[^A-Za-z0-9_-]")


class McpSigningMissing(SlackwaterError):
    """An MCP server is to be told whose run calls, and this server signs no tokens."""


class McpOfRuns:
    """The MCP servers for the runs of all owners."""

    def __init__(self, database: Database, catalog: McpCatalog, signing: Signing | None) -> None:
        self.database, self.catalog, self.signing = database, catalog, signing

    def of(self, owner: str, lease: Lease, loop: OwningLoop) -> McpOfRun:
        """Those for a run of this owner. Nothing is done yet."""
        return McpOfRun(self, owner, lease, loop)


class McpOfRun(OfRun):
    """Those for one attempt."""

    def __init__(self, all_: McpOfRuns, owner: str, lease: Lease, loop: OwningLoop) -> None:
        super().__init__(all_.database, owner, lease, loop)
        self._catalog, self._signing = all_.catalog, all_.signing

    async def tools(
        self, servers: Collection[str] | None, interceptors: Sequence[McpInterceptor]
    ) -> list[BaseTool]:
        self._require()
        found: dict[str, BaseTool] = {}
        for server, config, listed in await self._patiently(lambda: self._catalog.listed(servers)):
            for tool in listed:
                name = tool_name(server, tool.name)
                if name in found:
                    log.warning(
                        "two tools would have the name %s: the second one is left out",
                        name,
                        extra={"event": "mcp.tool_left_out", "server": server},
                    )
                    continue
                found[name] = self._tool(name, server, config, tool, tuple(interceptors))
        return list(found.values())

    def _tool(
        self, name: str, server: str, config: McpServer, tool: Any, interceptors: Sequence[McpInterceptor]
    ) -> BaseTool:
        from slackwater.workspace.mcp_servers.tool import McpTool

        async def work(arguments: Mapping[str, Any]) -> tuple[Any, Any]:
            return await self._call(McpCall(server, tool.name, arguments), config, interceptors)

        return McpTool(
            name=name,
            description=tool.description or "",
            # The listing is that of all owners.
            args_schema={"type": "object", "properties": {}, **copy.deepcopy(tool.input_schema)},
            call=lambda arguments: self._loop.call(lambda: work(arguments)),
            acall=lambda arguments: self._loop.run(lambda: work(arguments)),
            response_format="content_and_artifact",
            handle_tool_error=True,
            metadata={"mcp_server": server, "mcp_tool": tool.name},
        )

    async def _call(
        self, call: McpCall, config: McpServer, interceptors: Sequence[McpInterceptor]
    ) -> tuple[Any, Any]:
        from langchain_core.tools import ToolException

        async def make(call: McpCall) -> Any:
            self._require()
            return await self._made(call, config)

        handler: McpHandler = make
        for interceptor in reversed(interceptors):
            handler = _within(interceptor, handler)
        result = await handler(call)
        content = content_of(result)
        if getattr(result, "is_error", False):
            raise ToolException(content if isinstance(content, str) else str(content))
        structured = getattr(result, "structured_content", None)
        return content, None if structured is None else {"structured_content": structured}

    async def _made(self, call: McpCall, config: McpServer) -> Any:
        """Raises ToolException for whatever goes wrong outside."""
        from langchain_core.tools import ToolException

        seconds = config.tool_call_timeout or CALL_SECONDS
        try:
            async with asyncio.timeout(seconds):
                server = self._catalog.resolved(call.server, config)
                identity = await self._identity(server)
                # Nobody but us says whose run it is.
                given = {name: text for name, text in call.headers.items() if name.lower() != TOKEN_HEADER}

                def question(token: Mapping[str, str]) -> AbstractAsyncContextManager[Any]:
                    headers = {**given, **token, **identity}
                    return connection.call_tool(server, call.tool, call.arguments, headers, seconds)

                return await self._catalog.ask(server, question, f"mcp:call:{call.server}")
        except Exception as error:
            late = isinstance(error, TimeoutError)
            log.warning(
                "the MCP server %s has not answered a call of %s: %s",
                call.server,
                call.tool,
                reason_of(error),
                extra={"event": "mcp.call_failed", "server": call.server},
            )
            what = f"has not answered within {seconds:g} seconds" if late else "could not be asked"
            raise ToolException(f"The MCP server {call.server} {what}.") from error

    async def _identity(self, server: McpServer) -> dict[str, str]:
        """Whose run it is, for a server that is marked for it: a token that is valid for a minute, and only reads."""
        if not server.identity:
            return {}
        if self._signing is None:
            raise McpSigningMissing
        issued = await internal.issue(self._signing, self._owner, seconds=TOKEN_SECONDS, scope=KeyScope.READ)
        return {TOKEN_HEADER: issued.token}


def _within(interceptor: McpInterceptor, handler: McpHandler) -> McpHandler:
    async def intercepted(call: McpCall) -> Any:
        return await interceptor(call, handler)

    return intercepted


def tool_name(server: str, tool: str) -> str:
    """What models call it."""
    return _OTHERS.sub("_", f"{server}_{tool}")[:NAME_CHARACTERS]


def content_of(result: Any) -> str | list[dict[str, Any]]:
    """A text, or LangChain's blocks if there is more than text."""
    blocks = [_block(block) for block in getattr(result, "content", None) or []]
    if all(block["type"] == "text" for block in blocks):
        return "\n".join(block["text"] for block in blocks)
    return blocks


def _block(block: Any) -> dict[str, Any]:
    match block.type:
        case "text":
            return {"type": "text", "text": block.text}
        case "image" | "audio":
            return {"type": block.type, "base64": block.data, "mime_type": block.mime_type}
        case "resource_link":
            return {"type": "text", "text": f"{block.name}: {block.uri}"}
        case "resource" if getattr(block.resource, "text", None) is not None:
            return {"type": "text", "text": block.resource.text}
        case "resource":
            mime = block.resource.mime_type or "application/octet-stream"
            return {"type": "file", "base64": block.resource.blob, "mime_type": mime}
    return {"type": "text", "text": str(block)}
