"""What else speaks to runs and threads: protocol v2, MCP, A2A."""

from __future__ import annotations
