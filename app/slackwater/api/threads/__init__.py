"""Threads: their rows, their states read and written through a graph, and the stream of all their runs."""

from __future__ import annotations
