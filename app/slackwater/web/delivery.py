"""How an answer reaches its client where a server in front takes it from us whole, or for a limited time only."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.types import Scope

SCOPE_KEY = "slackwater.delivery"


@dataclass(frozen=True, slots=True)
class Delivery:
    """What the host of this request can do. There is none in a container, where a socket stays open at will."""

    until: float
    """The monotonic second at which the whole answer has to be given back."""
    live: bool
    """Chunks reach the client as they are sent. If not, they are collected, and sent when the answer ends."""

    @staticmethod
    def of(scope: Scope) -> Delivery | None:
        """The request's, if its host has said one."""
        delivery: Delivery | None = scope.get(SCOPE_KEY)
        return delivery
