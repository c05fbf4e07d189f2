"""Slackwater: LangGraph runs that never die with the process that was running them."""

from __future__ import annotations

__version__ = "0.1.0"
