"""Where the nodes of the model's graph wait."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import Enum

from slackwater.runtime.execution.node_tasks import NodeTasks, current_node_tasks


class Do(Enum):
    """What a node that waits is to do."""

    GO_ON = "go on"
    END = "end"
    ASK = "ask"
    FAIL = "fail"


@dataclass(eq=False)
class Gate:
    """One node that waits."""

    run_id: str
    node_tasks: NodeTasks | None
    """Those of its attempt: a run may unwind in one process while another one works on it."""
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    what: Do = Do.END
    stubborn: bool = False
    """It does not let itself be cancelled: it unwinds when the gate is opened."""
    cancelled: bool = False

    def open(self, what: Do) -> None:
        self.what = what
        self.opened.set()


class Gates:
    """All of this process."""

    def __init__(self) -> None:
        self.waiting: list[Gate] = []
        self.stubborn = False
        """Nodes that come from now on swallow their cancellation."""
        self._marks = 0

    def mark(self) -> str:
        """A string that no other superstep has written."""
        self._marks += 1
        return f"m{self._marks}"

    async def wait(self, run_id: str) -> Do:
        gate = Gate(run_id, current_node_tasks.get(), stubborn=self.stubborn)
        self.waiting.append(gate)
        try:
            while not gate.opened.is_set():
                try:
                    await gate.opened.wait()
                except asyncio.CancelledError:
                    if not gate.stubborn:
                        raise
                    gate.cancelled = True
            return gate.what
        finally:
            self.waiting.remove(gate)


gates = Gates()
