"""A graph that its factory has made for one access, in a task of its own.

There it is entered, and left: whoever works with the graph waits for neither without a bound, and a run's end never
does. What a factory holds open is user code, which may hang.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AbstractAsyncContextManager
from contextvars import Context
from typing import TYPE_CHECKING, Any

from slackwater.errors import GraphSilent

if TYPE_CHECKING:
    from langgraph.pregel import Pregel

    Graph = Pregel[Any, Any, Any, Any]

log = logging.getLogger(__name__)

OPEN_SECONDS = 10.0
"""How long a factory may take to make a graph that is only to be looked at. A run's has the run's own time."""

LEAVE_SECONDS = 5.0
"""How long what it holds open may take to close, before it is cancelled and nobody waits for it any more."""


class OpenedGraph:
    """Entered at once; `leave` has to follow. `context` is where its factory's context variables are set."""

    def __init__(
        self, graph_id: str, building: AbstractAsyncContextManager[Graph], context: Context | None
    ) -> None:
        self.graph_id = graph_id
        self._ready: asyncio.Future[Graph] = asyncio.get_running_loop().create_future()
        self._left = asyncio.Event()
        self._error: BaseException | None = None
        self.task = asyncio.create_task(self._hold(building), name=f"graph:{graph_id}", context=context)

    async def graph(self, timeout: float | None) -> Graph:
        """The graph, once it is made. Raises what the factory raises, and GraphSilent after `timeout` seconds."""
        if not (await asyncio.wait({self._ready}, timeout=timeout))[0]:
            raise GraphSilent(f"The factory of graph '{self.graph_id}' did not return within {timeout:g} s.")
        return self._ready.result()

    @property
    def made(self) -> bool:
        """Whether its factory has made the graph, and may hold something open."""
        return self._ready.done() and not self._ready.cancelled() and self._ready.exception() is None

    def leave(self, error: BaseException | None = None) -> None:
        """Close what it holds, and do not wait for that. `error`: with what the work on the graph has ended."""
        if self._left.is_set():
            return
        self._error = error
        self._left.set()
        if not self._ready.done():  # nobody wants the graph any more
            self.task.cancel()
        if not self.task.done():
            timer = asyncio.get_running_loop().call_later(LEAVE_SECONDS, self._abandon)
            self.task.add_done_callback(lambda _: timer.cancel())

    async def gone(self, timeout: float) -> None:
        """Wait, `timeout` seconds at most, until everything is closed."""
        await asyncio.wait({self.task}, timeout=timeout)

    def _abandon(self) -> None:
        self.task.cancel()
        log.error(
            "the factory of graph '%s' does not close what it opened: it is not waited for any longer",
            self.graph_id,
            extra={"event": "graph.not_left", "graph_id": self.graph_id},
        )

    async def _hold(self, building: AbstractAsyncContextManager[Graph]) -> None:
        try:
            async with building as graph:
                if not self._ready.done():
                    self._ready.set_result(graph)
                await self._left.wait()
                if self._error is not None:
                    raise self._error  # its factory may want to know
        except BaseException as error:
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        if not self._ready.done():
            if isinstance(error, asyncio.CancelledError):
                self._ready.cancel()
            else:
                self._ready.set_exception(error)
                self._ready.exception()  # who wanted it may be gone
        elif isinstance(error, Exception) and error is not self._error:
            log.warning(
                "the factory of graph '%s' failed to close what it opened",
                self.graph_id,
                exc_info=error,
                extra={"event": "graph.left_badly", "graph_id": self.graph_id},
            )
