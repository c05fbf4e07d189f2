"""The skills of a run's owner, as the runtime sees them."""

from __future__ import annotations

from collections.abc import Collection
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from slackwater.runtime.execution.owning_loop import OwningLoop
    from slackwater.runtime.queue.lease import Lease


class RunSkills(Protocol):
    """Those of the owner of an attempt's run. Everything raises RunOver when the attempt is over, and works in the loop only."""

    @property
    def loop(self) -> OwningLoop:
        """Where it works."""

    async def list_(self, names: Collection[str] | None) -> list[dict[str, Any]]:
        """Those that are switched on, or those of these names that are."""

    async def read(self, name: str, path: str) -> bytes:
        """A file of one that is switched on. Raises UnknownSkill."""


class NodeSkills(Protocol):
    """The skills of all owners."""

    def of(self, owner: str, lease: Lease, loop: OwningLoop) -> RunSkills:
        """Those of the owner of a run. Nothing is done yet."""


current_skills: ContextVar[RunSkills | None] = ContextVar("current_skills", default=None)
"""Those of the owner of the run that the running code belongs to."""
