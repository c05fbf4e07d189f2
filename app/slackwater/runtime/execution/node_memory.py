"""The memory of a run's owner, as the runtime sees it."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

if TYPE_CHECKING:
    from slackwater.runtime.execution.owning_loop import OwningLoop
    from slackwater.runtime.queue.lease import Lease


class RunMemory(Protocol):
    """That of the owner of an attempt's run. Everything raises RunOver when the attempt is over, and works in the loop only."""

    @property
    def loop(self) -> OwningLoop:
        """Where it works."""

    async def read(self) -> dict[str, Any]:
        """All that is remembered."""

    async def prompt(self) -> str:
        """What a prompt should say of it."""

    async def remember(self, content: str, category: str, confidence: float) -> None:
        """Remember one thing, unless it is known."""

    async def update(self, messages: Sequence[Any]) -> None:
        """Let a model find out, in a while, what is to be remembered of these."""


class NodeMemory(Protocol):
    """The memories of all owners."""

    def of(self, owner: str, thread_id: UUID, lease: Lease, loop: OwningLoop) -> RunMemory:
        """That of the owner of a run. Nothing is done yet."""


current_memory: ContextVar[RunMemory | None] = ContextVar("current_memory", default=None)
"""That of the owner of the run that the running code belongs to."""
