"""Signals interrupt whatever runs, and the stop that they begin is nobody's but the process's."""

from __future__ import annotations

import asyncio
import signal
from contextvars import ContextVar

from slackwater.runtime.process.signals import StopSignals

node: ContextVar[str] = ContextVar("node", default="none")


async def test_a_stop_does_not_belong_to_the_node_that_its_signal_has_interrupted() -> None:
    """Or a drain takes its own task for one that the node has begun, and cuts the run for it."""
    seen: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def stop(name: str) -> None:
        seen.set_result(f"{name} {node.get()}")

    signals = StopSignals()
    signals.started(stop)
    node.set("a")  # as in the code of a node
    signals._handle(signal.SIGTERM, None)
    assert await asyncio.wait_for(seen, 5) == "SIGTERM none"
