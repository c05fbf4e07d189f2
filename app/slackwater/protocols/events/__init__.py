"""Protocol v2: the events of a thread by server-sent events or WebSocket, and commands on it."""

from __future__ import annotations
