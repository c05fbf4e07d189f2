"""The tools of MCP servers, for the nodes of a graph: of those that administrators have configured at `/api/mcp/config`.

    from slackwater.mcp import atools

    async def agent(state: State) -> State:
        found = await atools()                          # LangChain tools, named `server_tool`
        answer = await model.bind_tools(found).ainvoke(state["messages"])
        ...

Which there are is known by each process, and asked again after some seconds: a change of the configuration takes effect within ten.
A server that is down delays the first run by five seconds, and no later one; the tools of the others are there.

Each function has two forms: `tools` for a `def`, and `atools` for an `async def`, in which the first would hold up the event loop and
raises InvalidStateError. Both raise NoMcp outside of a run, RunOver when the run has ended or goes on in another process, and
McpNotInstalled without the package `mcp` (`pip install "slackwater[mcp-tools]"`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from slackwater.errors import NoMcp
from slackwater.runtime.execution.node_mcp import McpCall, McpHandler, McpInterceptor, RunMcp, current_mcp

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

__all__ = ["McpCall", "McpHandler", "McpInterceptor", "atools", "tools"]


async def atools(
    servers: Collection[str] | None = None, *, interceptors: Sequence[McpInterceptor] = ()
) -> list[BaseTool]:
    """The tools of all servers that are on, or of those of these names that are.

    What goes wrong with a call is what the tool answers, so that a model may do something else. An interceptor is
    `async def f(call: McpCall, handler: McpHandler)` and returns `await handler(call)`, or that of `call.override(headers=…)`;
    the first one is the outermost.
    """
    run = _of_this_run()
    return await run.loop.run(lambda: run.tools(servers, interceptors))


def tools(
    servers: Collection[str] | None = None, *, interceptors: Sequence[McpInterceptor] = ()
) -> list[BaseTool]:
    """As `atools`, for a `def`."""
    run = _of_this_run()
    return run.loop.call(lambda: run.tools(servers, interceptors))


def _of_this_run() -> RunMcp:
    found = current_mcp.get()
    if found is None:
        raise NoMcp
    return found
