"""What `langgraph.json` says."""

from __future__ import annotations
