"""The files that the nodes of a run see in a local folder, as the runtime sees them."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar
from uuid import UUID

if TYPE_CHECKING:
    from slackwater.runtime.execution.owning_loop import OwningLoop
    from slackwater.runtime.fenced.files import StoredFiles

T = TypeVar("T")


class RunFiles(Protocol):
    """The files of an attempt's thread."""

    @property
    def used(self) -> bool:
        """Whether a node has asked for them. All else costs nothing until then."""

    async def begin(self) -> None:
        """The attempt begins, before its graph is made: with a home folder the files are there from now on."""

    def path(self) -> Path:
        """The folder, made when somebody asks first. Blocks: the event loop, too. Raises when the attempt is over."""

    async def apath(self) -> Path:
        """The same without blocking, in any loop."""

    def ticked(self) -> None:
        """A graph begins its next superstep, or ends: what was changed until now belongs to the checkpoint before."""

    def passed(self) -> None:
        """A checkpoint is stored before which no node has run."""

    async def store(self, until: float = math.inf) -> None:
        """Store the bytes of what has changed, what was written after `until` (seconds since the epoch) left out.

        Raises what a store of files raises.
        """

    def take(self) -> StoredFiles | None:
        """What has been stored and is in no checkpoint yet: it has to go with the next one."""

    async def settled(self) -> None:
        """Wait until what belongs to the last checkpoint is stored, so that nodes may go on with their files."""

    def close(self) -> None:
        """The attempt is over: the folder goes."""


class Retrying(Protocol):
    """`Writer.retrying`: what the database is asked again as long as the lease holds."""

    def __call__(self, ask: Callable[[], Awaitable[T]]) -> Awaitable[T]: ...


class NodeFiles(Protocol):
    """The files of all runs of the process."""

    def of(self, owner: str, thread_id: UUID, loop: OwningLoop, retrying: Retrying) -> RunFiles:
        """Those of a run. Nothing is done yet."""

    async def stop(self, timeout: float) -> None:
        """Wait, `timeout` seconds at most, until the folders of what is over are gone."""


current_files: ContextVar[RunFiles | None] = ContextVar("current_files", default=None)
"""Those of the run that the running code belongs to."""
