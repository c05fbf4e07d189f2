"""A tool of an MCP server, as LangChain has tools. Imports LangChain."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from langchain_core.tools import BaseTool
from pydantic import Field


class McpTool(BaseTool):
    """Its arguments have the names that the server gives them: a `StructuredTool` takes `config`, `run_manager` and `self` for itself."""

    call: Callable[[Mapping[str, Any]], tuple[Any, Any]] = Field(exclude=True, repr=False)
    acall: Callable[[Mapping[str, Any]], Awaitable[tuple[Any, Any]]] = Field(exclude=True, repr=False)

    def _run(self, /, *_: Any, **arguments: Any) -> tuple[Any, Any]:
        return self.call(arguments)

    async def _arun(self, /, *_: Any, **arguments: Any) -> tuple[Any, Any]:
        return await self.acall(arguments)
