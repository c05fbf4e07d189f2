"""Compiled graphs: found in the project, imported when they are needed, opened for one access, and described."""

from __future__ import annotations
