"""The LangGraph API, by resource: `routes → service → queries`."""

from __future__ import annotations
