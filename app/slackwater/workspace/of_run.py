"""What nodes have of their run's owner: as long as the run is theirs, and patient with the database."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from slackwater.errors import RunOver
from slackwater.postgres.pool import Database
from slackwater.postgres.retry import retrying
from slackwater.runtime.execution.owning_loop import OwningLoop
from slackwater.runtime.queue.lease import Lease

T = TypeVar("T")


class OfRun:
    """Something of the owner of one attempt's run."""

    def __init__(self, database: Database, owner: str, lease: Lease, loop: OwningLoop) -> None:
        self._database, self._owner, self._lease, self._loop = database, owner, lease, loop

    @property
    def loop(self) -> OwningLoop:
        return self._loop

    def _require(self) -> None:
        """Raises RunOver."""
        if self._lease.gone:
            raise RunOver

    async def _patiently(self, act: Callable[[], Awaitable[T]]) -> T:
        """Again while the database is away, which is no fault of the node's. Whatever it is may take effect twice."""
        return await retrying(act, until=time.monotonic() + self._database.statement_seconds)
