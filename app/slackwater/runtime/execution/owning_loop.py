"""The event loop that owns the pool, and how code in any thread or loop has something done there.

Connections, locks and futures belong to the loop they were made in. A graph that a sync node invokes runs in a thread,
and one under `asyncio.run` in a loop of its own: what either asks of the checkpointer or the store is carried out in
the owning loop, and only its result is waited for elsewhere.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Coroutine
from functools import wraps
from inspect import CORO_CREATED, getcoroutinestate, signature
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")

LOOK_SECONDS = 1.0
"""How often whoever waits elsewhere looks whether what they wait for can still come."""


class LoopGone(RuntimeError):
    """The event loop that owns the database's connections has ended: nothing more can be read or written."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


class OwningLoop:
    """The loop in which it was made. `check` is asked while somebody waits elsewhere, and raises to end the wait."""

    def __init__(self, check: Callable[[], None] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._check = check

    @property
    def here(self) -> bool:
        """Whether the running code is in this loop, or in sync code that blocks it."""
        return running_loop() is self._loop

    async def run(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of `make()`, awaited in the owning loop. Call it from any loop.

        Raises LoopGone, and what `check` raises.
        """
        if self.here:
            return await make()
        work, submitted = self._submit(make)
        try:
            waited = asyncio.wrap_future(submitted)
            while not (await asyncio.wait({waited}, timeout=LOOK_SECONDS))[0]:
                self._look(work)
            return waited.result()
        finally:
            submitted.cancel()  # without effect on one that is done

    def call(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of `make()`, awaited in the owning loop. Call it from any other thread.

        Raises InvalidStateError in the loop's own thread, LoopGone, and what `check` raises.
        """
        if self.here:
            raise asyncio.InvalidStateError(
                "A synchronous call from the event loop's own thread would deadlock. Use the async method "
                "(`await store.aput(…)`, `await graph.ainvoke(…)`), or make the node a plain `def`."
            )
        work, submitted = self._submit(make)
        try:
            while not concurrent.futures.wait({submitted}, timeout=LOOK_SECONDS).done:
                self._look(work)
            return submitted.result()
        finally:
            submitted.cancel()

    def _submit(
        self, make: Callable[[], Coroutine[Any, Any, T]]
    ) -> tuple[Coroutine[Any, Any, T], concurrent.futures.Future[T]]:
        work = make()
        try:
            return work, asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # it is closed
            work.close()
            raise LoopGone from None

    def _look(self, work: Coroutine[Any, Any, Any]) -> None:
        if not self._loop.is_running():
            if getcoroutinestate(work) == CORO_CREATED:
                work.close()  # nobody will ever begin it
            raise LoopGone
        if self._check is not None:
            self._check()


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that runs in this thread, if any."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class Owned(Protocol):
    """What belongs to a loop."""

    @property
    def owning_loop(self) -> OwningLoop: ...


O = TypeVar("O", bound=Owned)  # noqa: E741


def from_any_loop(
    method: Callable[Concatenate[O, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[O, P], Coroutine[Any, Any, T]]:
    """A method that is carried out in the object's own loop, wherever it is awaited."""

    @wraps(method)
    async def anywhere(self: O, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.owning_loop.run(lambda: method(self, *args, **kwargs))

    # LangGraph asks for it once per run; made there it takes three times as long.
    anywhere.__signature__ = signature(method)  # type: ignore[attr-defined]
    return cast("Callable[Concatenate[O, P], Coroutine[Any, Any, T]]", anywhere)
