"""What LangGraph asks before each superstep of each graph of an attempt."""

from __future__ import annotations

import asyncio

from langchain_core.runnables.config import var_child_runnable_config
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl

from app.runtime.bodies import Bodies


class Control(RunControl):
    """Asks the graphs of one attempt to stop at their boundaries, and hears of every boundary.

    The graphs that nodes invoke inherit it, in threads and in loops of their own, too.
    """

    __slots__ = ("_bodies",)

    def __init__(self, bodies: Bodies) -> None:
        super().__init__()
        self._bodies = bodies

    @property
    def drain_requested(self) -> bool:
        stops = super().drain_requested
        if namespace():
            self._bodies.graph_steps(stops=stops)
        else:
            self._bodies.superstep(stops=stops)
        return stops


def namespace() -> str:
    """Where the running code is: `node:<task id>|inner:<task id>`, or nothing in no node."""
    config = var_child_runnable_config.get() or {}
    return str((config.get("configurable") or {}).get("checkpoint_ns") or "")


def is_drain(problem: object) -> bool:
    """Whether it says no more than that a drain has stopped a graph, or several side by side: a task group's error."""
    if isinstance(problem, BaseExceptionGroup):
        drains, others = problem.split(GraphDrained)
        return drains is not None and (others is None or others.split(asyncio.CancelledError)[1] is None)
    return isinstance(problem, GraphDrained)
