"""What executes: one attempt of one run. The only room that imports LangGraph, and only through `engine`."""

from __future__ import annotations
