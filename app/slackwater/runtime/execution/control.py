"""The `RunControl` that LangGraph consults before each superstep of each graph of an attempt."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime

from langchain_core.runnables.config import var_child_runnable_config
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl

from slackwater.runtime.execution.node_files import RunFiles
from slackwater.runtime.execution.node_tasks import NodeTasks


class Control(RunControl):
    """Asks the graphs of one attempt to stop at their boundaries, and is notified of every boundary.

    Graphs that nodes invoke inherit it, even in threads and in other event loops.
    """

    __slots__ = ("_files", "_node_tasks")

    def __init__(self, node_tasks: NodeTasks, files: RunFiles | None = None) -> None:
        super().__init__()
        self._node_tasks = node_tasks
        self._files = files

    @property
    def drain_requested(self) -> bool:
        stops = super().drain_requested
        here, node_tasks = namespace(), self._node_tasks
        if self._files is not None and _asked_by_langgraph():
            self._files.ticked()
        if here:
            node_tasks.graph_steps(stops=stops)
            if stops and _asked_by_langgraph():
                node_tasks.stopped_inside.setdefault(here, datetime.now(UTC).isoformat())
        else:
            # The error of a stopped graph ends the graphs around it, unless a node catches it.
            node_tasks.swallowed = bool(node_tasks.stopped_inside)
            node_tasks.superstep(stops=stops)
        return stops


def namespace() -> str:
    """The checkpoint namespace of the running code: `node:<task id>|inner:<task id>`, or '' outside of nodes."""
    config = var_child_runnable_config.get() or {}
    return str((config.get("configurable") or {}).get("checkpoint_ns") or "")


def _asked_by_langgraph() -> bool:
    """False if a node asks, which then ends by itself."""
    return sys._getframe(2).f_globals.get("__name__") == "langgraph.pregel._loop"


def is_drain(problem: object) -> bool:
    """Whether the error only says that a drain has stopped one graph, or several in a task group."""
    if isinstance(problem, BaseExceptionGroup):
        drains, others = problem.split(GraphDrained)
        return drains is not None and (others is None or others.split(asyncio.CancelledError)[1] is None)
    return isinstance(problem, GraphDrained)
