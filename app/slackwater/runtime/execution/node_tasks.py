"""The tasks that nodes have started and that are still running when the graph has ended.

`asyncio.gather` leaves its other children running when one of them raises. If that one is a graph that a drain has stopped
at its boundary, LangGraph ends the whole run, while its siblings continue in this process.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Coroutine, Generator
from contextvars import Context, ContextVar
from typing import Any, cast

Task = asyncio.Task[Any]

current_node_tasks: ContextVar[NodeTasks | None] = ContextVar("current_node_tasks", default=None)
"""The node tasks of the attempt that the running code belongs to."""


class NodeTasks:
    """The asyncio tasks that an attempt has started since the last boundary of its root graph.

    Tasks left over from earlier supersteps belong to finished nodes, for example connections that a library keeps.
    """

    def __init__(self) -> None:
        self.at_boundary = False
        """The root graph itself was told to stop, so that none of its nodes is executing."""
        self.stopped_inside: dict[str, str] = {}
        """When a graph was told to stop, by the namespace of the node that it runs in."""
        self.swallowed = False
        """A node has continued although a graph inside it was stopped: what it returns is not its real result."""
        self._creators: weakref.WeakKeyDictionary[Task, weakref.ref[Task] | None] = (
            weakref.WeakKeyDictionary()
        )
        self._graphs: weakref.WeakKeyDictionary[Task, bool] = weakref.WeakKeyDictionary()
        self._elsewhere: list[weakref.ref[Task]] = []
        self._loop = asyncio.get_running_loop()

    # Called by the event loop and LangGraph

    def started(self, task: Task) -> None:
        """A task was created for the attempt."""
        creator = asyncio.current_task()
        self._creators[task] = weakref.ref(creator) if creator is not None else None

    def superstep(self, *, stops: bool) -> None:
        """The root graph begins its next superstep, or stops before it if `stops`."""
        self.at_boundary = stops
        self._creators.clear()
        self._graphs.clear()
        self._elsewhere.clear()

    def graph_steps(self, *, stops: bool) -> None:
        """The current task drives a graph inside a node, which begins its next superstep, or stops before it if `stops`."""
        try:
            task = asyncio.current_task()
        except RuntimeError:  # a thread
            return
        if task is None:
            return
        if task.get_loop() is self._loop:
            self._graphs[task] = stops
        else:
            self._elsewhere.append(weakref.ref(task))

    # Called by the executor

    @property
    def open(self) -> set[Task]:
        """The tasks that have not ended."""
        return {task for task in list(self._creators) if not task.done()} - {asyncio.current_task()}

    @property
    def open_graphs(self) -> set[Task]:
        """The open tasks that drive a graph."""
        return self.open & set(self._graphs)

    def stops(self, task: Task) -> bool:
        """Whether the task drives a graph that is already stopping, and storing its checkpoint."""
        return self._graphs.get(task, False)

    @property
    def cut(self) -> bool:
        """Whether a graph was cancelled in an event loop that a node created."""
        tasks = [task() for task in self._elsewhere]
        return any(task is not None and task.cancelled() for task in tasks)

    def outermost(self, tasks: set[Task]) -> set[Task]:
        """`tasks` without those started by another one of them, which ends them itself."""
        return {task for task in tasks if not self._is_inside(task, tasks)}

    def _is_inside(self, task: Task, others: set[Task]) -> bool:
        creator = self._creator(task)
        while creator is not None and creator not in others:
            creator = self._creator(creator)
        return creator is not None

    def _creator(self, task: Task) -> Task | None:
        creator = self._creators.get(task)
        return creator() if creator is not None else None


def watch(loop: asyncio.AbstractEventLoop) -> None:
    """From now on, record the tasks of the loop with the attempts that start them."""
    factory: Any = loop.get_task_factory()
    if not isinstance(factory, _Factory):
        loop.set_task_factory(cast("Any", _Factory(factory)))


class _Factory:
    """Creates tasks as before, and records them with the attempt."""

    def __init__(self, inner: Any | None) -> None:
        self._make = inner

    def __call__(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
        *,
        context: Context | None = None,
        **options: Any,
    ) -> asyncio.Future[Any]:
        if self._make is not None:
            kept = options if context is None else {**options, "context": context}
            task = self._make(loop, work, **kept)
        else:
            task = asyncio.Task(cast("Any", work), loop=loop, context=context, **options)
        node_tasks = current_node_tasks.get() if context is None else context.get(current_node_tasks)
        if node_tasks is not None:
            node_tasks.started(task)
        return cast("asyncio.Future[Any]", task)
