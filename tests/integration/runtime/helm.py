"""What the nodes of the test graphs have done, and what the test wants them to do next."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig

HOLD_SECONDS = 60.0


class Step(NamedTuple):
    """A node that has begun, or is done."""

    phase: str
    node: str
    run_id: str
    attempt: int


class Hold:
    """A node that waits at its beginning until it is let go."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._go = asyncio.Event()

    async def __call__(self, config: RunnableConfig) -> None:
        self.reached.set()
        async with asyncio.timeout(HOLD_SECONDS):
            await self._go.wait()

    def let_go(self) -> None:
        self._go.set()


class SyncHold:
    """The same for a node that blocks a thread."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go = threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        self.go.wait(HOLD_SECONDS)


class Helm:
    """One for all nodes of this process; `reset` between tests."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.hooks: dict[str, Callable[[RunnableConfig], Awaitable[Any]]] = {}
        self.sync_holds: dict[str, SyncHold] = {}
        self.errors: list[Exception] = []
        """What nodes were refused."""
        self.kept: list[asyncio.Task[Any]] = []
        """What nodes have started and left running."""

    def reset(self) -> None:
        for hold in self.sync_holds.values():
            hold.go.set()
        self.__init__()  # type: ignore[misc]

    # For tests

    def hold(self, node: str) -> Hold:
        """Let `node` wait at its beginning."""
        hold = self.hooks[node] = Hold()
        return hold

    def hold_sync(self, node: str) -> SyncHold:
        hold = self.sync_holds[node] = SyncHold()
        return hold

    def done_by(self, run_id: object) -> list[str]:
        """The nodes that the run has finished, in order."""
        return [step.node for step in self.steps if step.phase == "done" and step.run_id == str(run_id)]

    def begun_by(self, run_id: object) -> list[str]:
        return [step.node for step in self.steps if step.phase == "begin" and step.run_id == str(run_id)]

    # For nodes

    async def begin(self, node: str, config: RunnableConfig) -> None:
        self._note("begin", node, config)
        hook = self.hooks.get(node)
        if hook is not None:
            await hook(config)

    def begin_sync(self, node: str, config: RunnableConfig) -> None:
        self._note("begin", node, config)
        hold = self.sync_holds.get(node)
        if hold is not None:
            hold()

    def done(self, node: str, config: RunnableConfig) -> None:
        self._note("done", node, config)

    def _note(self, phase: str, node: str, config: RunnableConfig) -> None:
        metadata = config.get("metadata") or {}
        self.steps.append(
            Step(phase, node, str(metadata.get("run_id")), int(metadata.get("run_attempt") or 0))
        )


helm = Helm()


async def ignore_cancellation(config: RunnableConfig) -> None:
    """Wait for the hold of `ignores`, whatever anybody cancels."""
    task = asyncio.ensure_future(helm.begin("ignores", config))
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                return
