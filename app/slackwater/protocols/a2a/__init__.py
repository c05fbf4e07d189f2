"""A2A: assistants as agents, over JSON-RPC, in its versions 0.3 and 1.0."""

from __future__ import annotations
