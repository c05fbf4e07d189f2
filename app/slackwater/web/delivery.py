"""How a response reaches its client, when the host in front buffers it or limits its duration."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.types import Scope

SCOPE_KEY = "slackwater.delivery"


@dataclass(frozen=True, slots=True)
class Delivery:
    """What the host of this request supports. Absent in a container, where a connection may stay open."""

    until: float
    """When the response must be complete, in seconds on the monotonic clock."""
    live: bool
    """Chunks reach the client as they are sent. Otherwise they are buffered until the response ends."""

    @staticmethod
    def of(scope: Scope) -> Delivery | None:
        """The delivery of a request, if its host has set one."""
        delivery: Delivery | None = scope.get(SCOPE_KEY)
        return delivery
