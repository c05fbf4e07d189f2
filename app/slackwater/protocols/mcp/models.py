"""What MCP's requests say, and which protocol versions are spoken."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel


class McpMethod(StrEnum):
    """What may be asked."""

    INITIALIZE = "initialize"
    PING = "ping"
    LIST_TOOLS = "tools/list"
    CALL_TOOL = "tools/call"


VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""Oldest first. Who asks for another one is offered the newest."""

UNNAMED_VERSION = "2025-03-26"
"""What a client speaks that sends no MCP-Protocol-Version: that header came with the next one."""

RESUMABLE = frozenset({"2025-11-25"})
"""Versions whose clients come back with `Last-Event-ID` when an answer was cut off before its end."""


class Initialize(BaseModel):
    protocolVersion: str | None = None


class ListTools(BaseModel):
    cursor: str | None = None


class CallTool(BaseModel):
    name: str
    arguments: dict[str, Any] | None = None
