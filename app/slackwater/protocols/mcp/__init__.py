"""MCP over streamable HTTP: assistants as tools."""

from __future__ import annotations
