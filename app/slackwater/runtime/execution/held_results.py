"""Results of tasks that wait until the files are stored that these tasks have written."""

from __future__ import annotations

import time
from typing import NamedTuple

from slackwater.runtime.fenced.group import WritesPut


class HeldResult(NamedTuple):
    """The writes of a task that has finished."""

    namespace: str
    checkpoint_id: str
    """The one that the task started from."""
    task_id: str
    put: WritesPut
    number: int = 0
    """How many there have been with it."""


class HeldResults:
    """Those of one attempt.

    A result that is stored says that its task does not run again. Were it stored before the files of the task, a process
    that dies in between would lose them for good: nobody could tell that they are missing.
    """

    def __init__(self) -> None:
        self._held: list[HeldResult] = []
        self._number = 0
        self._followed: dict[str, str] = {}
        """The newest checkpoint that results have gone with, by namespace."""
        self.latest = 0.0
        """When the latest one has come, in seconds since the epoch: what is written later is of tasks that still run."""

    def __bool__(self) -> bool:
        return bool(self._held)

    def hold(self, result: HeldResult) -> bool:
        """Hold a result; False if the checkpoint that follows it has gone already, and its files with that.

        Threads bring results and checkpoints of their graphs in any order.
        """
        if result.checkpoint_id < self._followed.get(result.namespace, ""):
            return False
        self._number += 1
        self._held.append(result._replace(number=self._number))
        self.latest = time.time()
        return True

    def now(self) -> int:
        """How many there have been until now: a look at the files from now on finds what their tasks have written."""
        return self._number

    def take(self, seen: int, namespace: str, checkpoint_id: str) -> list[HeldResult]:
        """Take those of `now`, before a look at the files, and those that come before this checkpoint."""
        if checkpoint_id:
            self._followed[namespace] = checkpoint_id
        taken: list[HeldResult] = []
        left: list[HeldResult] = []
        for result in self._held:
            precedes = result.namespace == namespace and result.checkpoint_id < checkpoint_id
            (taken if result.number <= seen or precedes else left).append(result)
        self._held = left
        return taken
