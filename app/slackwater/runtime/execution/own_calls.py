"""What the nodes of a run ask of this process' own API, as the runtime sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class CallingRun(Protocol):
    """A run whose nodes may call."""

    @property
    def owner(self) -> str:
        """On whose behalf they do."""

    @property
    def user(self) -> Mapping[str, Any] | None:
        """Who that is to the project's own `auth`, if it has one."""

    @property
    def may_call(self) -> bool:
        """Whether it is still going on here."""

    @property
    def stops(self) -> bool:
        """Whether it was asked to stop here."""


class OwnCalls(Protocol):
    """Carries out requests that come from code of this process."""

    def act_for(self, run: CallingRun) -> None:
        """From now on, the running context, and what inherits it, calls on behalf of the run's owner."""


class NoOwnCalls:
    """There is no API here."""

    def act_for(self, run: CallingRun) -> None: ...
