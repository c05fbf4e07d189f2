"""MCP servers that graphs have tools of: which there are, what they are told, and how they are called."""
