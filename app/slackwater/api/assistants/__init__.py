"""Assistants: one of each graph for everybody, and those that callers make, with their versions."""

from __future__ import annotations
