"""What still runs here for an attempt when its graph has ended: the tasks that a node has started and not awaited.

`asyncio.gather` leaves its other children running when one of them raises. If that one is a graph that a drain has
stopped at its boundary, LangGraph ends the whole run, while the bodies beside it run on in this process.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Coroutine, Generator
from contextvars import Context, ContextVar
from typing import Any, cast

Task = asyncio.Task[Any]

current_bodies: ContextVar[Bodies | None] = ContextVar("current_bodies", default=None)
"""Those of the attempt on whose behalf the running code was started."""


class Bodies:
    """The asyncio tasks that an attempt has started since the last boundary of its root graph.

    What an earlier superstep has left behind belongs to nodes that are finished: a connection that a library keeps, say.
    """

    def __init__(self) -> None:
        self.at_boundary = False
        """The root graph itself was told to stop: no node of it is in the middle of anything."""
        self.stopped_inside: dict[str, str] = {}
        """When a graph was told to stop, by its namespace: that of the node it is in."""
        self.swallowed = False
        """A node has gone on although a graph inside it was stopped: what it makes of that is not its result."""
        self._creators: weakref.WeakKeyDictionary[Task, weakref.ref[Task] | None] = (
            weakref.WeakKeyDictionary()
        )
        self._graphs: weakref.WeakKeyDictionary[Task, bool] = weakref.WeakKeyDictionary()
        self._elsewhere: list[weakref.ref[Task]] = []
        self._loop = asyncio.get_running_loop()

    # What the event loop and LangGraph tell

    def started(self, task: Task) -> None:
        """A task was created on the attempt's behalf."""
        creator = asyncio.current_task()
        self._creators[task] = weakref.ref(creator) if creator is not None else None

    def superstep(self, *, stops: bool) -> None:
        """The root graph begins its next superstep, or `stops` before it."""
        self.at_boundary = stops
        self._creators.clear()
        self._graphs.clear()
        self._elsewhere.clear()

    def graph_steps(self, *, stops: bool) -> None:
        """The running task drives a graph inside a node; that begins its next superstep, or `stops` before it."""
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

    # What the executor asks

    @property
    def open(self) -> set[Task]:
        """What has not ended."""
        return {task for task in list(self._creators) if not task.done()} - {asyncio.current_task()}

    @property
    def open_graphs(self) -> set[Task]:
        """Those of them that drive a graph."""
        return self.open & set(self._graphs)

    def stops(self, task: Task) -> bool:
        """Whether it drives a graph that is on its way out already, and stores where it has got to."""
        return self._graphs.get(task, False)

    @property
    def cut(self) -> bool:
        """Whether a graph was cancelled in a loop that a node had made for itself."""
        tasks = [task() for task in self._elsewhere]
        return any(task is not None and task.cancelled() for task in tasks)

    def outermost(self, tasks: set[Task]) -> set[Task]:
        """Without those that another one of them has started, and ends by itself."""
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
    """From now on the loop's tasks are counted for the attempts that start them."""
    factory: Any = loop.get_task_factory()
    if not isinstance(factory, _Factory):
        loop.set_task_factory(cast("Any", _Factory(factory)))


class _Factory:
    """Makes tasks as before, and tells the attempt."""

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
        bodies = current_bodies.get() if context is None else context.get(current_bodies)
        if bodies is not None:
            bodies.started(task)
        return cast("asyncio.Future[Any]", task)
