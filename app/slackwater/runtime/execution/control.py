"""What LangGraph asks before each superstep of each graph of an attempt."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime

from langchain_core.runnables.config import var_child_runnable_config
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl

from slackwater.runtime.execution.bodies import Bodies


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
        here, bodies = namespace(), self._bodies
        if here:
            bodies.graph_steps(stops=stops)
            if stops and _asked_by_langgraph():
                bodies.stopped_inside.setdefault(here, datetime.now(UTC).isoformat())
        else:
            # The error of a graph that was stopped ends the graphs around it, unless a node catches it.
            bodies.swallowed = bool(bodies.stopped_inside)
            bodies.superstep(stops=stops)
        return stops


def namespace() -> str:
    """Where the running code is: `node:<task id>|inner:<task id>`, or nothing in no node."""
    config = var_child_runnable_config.get() or {}
    return str((config.get("configurable") or {}).get("checkpoint_ns") or "")


def _asked_by_langgraph() -> bool:
    """Not by a node that wants to know, and ends by itself."""
    return sys._getframe(2).f_globals.get("__name__") == "langgraph.pregel._loop"


def is_drain(problem: object) -> bool:
    """Whether it says no more than that a drain has stopped a graph, or several side by side: a task group's error."""
    if isinstance(problem, BaseExceptionGroup):
        drains, others = problem.split(GraphDrained)
        return drains is not None and (others is None or others.split(asyncio.CancelledError)[1] is None)
    return isinstance(problem, GraphDrained)
