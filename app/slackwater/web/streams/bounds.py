"""How long, and how large, an answer may be where a server in front takes it whole, or for a limited time only."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from slackwater.kit.json_format import RESPONSE_BYTES, escaped_size
from slackwater.web.delivery import Delivery

if TYPE_CHECKING:
    from slackwater.settings import Settings

RESERVE_SECONDS = 0.5
"""Cut from the end of the delivery: what is recorded and put together after the last event."""

SEND_SECONDS = 0.1
"""Of that, what is left when a slow database is given up."""

GATEWAY_RESERVE_SECONDS = 1.0
"""Cut from the gateway's limit, which has been counting since before the request reached this process."""

AFTER_FIRST_SECONDS = 1.0
"""How long a page stays open for more after its first event: a client sees nothing of it before it ends."""

PAGE_BYTES = 4_000_000
LIVE_BYTES = 190_000_000
"""AWS Lambda streams at most 200 MB in one answer."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Monotonic seconds by which an answer of this request has to end."""

    live: bool
    until: float
    """For all of it."""
    wait_until: float
    """For an answer that waits for the end of a run."""
    page_until: float
    """For one page of a stream."""

    @classmethod
    def of(cls, delivery: Delivery, settings: Settings, began: float) -> Bounds:
        """`began`: the monotonic second at which the request came."""
        wait_until = delivery.until - RESERVE_SECONDS
        if delivery.live:
            return cls(True, delivery.until, wait_until, wait_until)
        wait_until = min(wait_until, began + settings.gateway_limit_seconds - GATEWAY_RESERVE_SECONDS)
        return cls(False, delivery.until, wait_until, min(wait_until, began + settings.stream_page_seconds))


async def current_bounds(request: Request) -> Bounds | None:
    """The request's bounds; None in a container, where a socket stays open at will."""
    delivery = Delivery.of(request.scope)
    if delivery is None:
        return None
    return Bounds.of(delivery, request.state.services.settings, time.monotonic())


CurrentBounds = Annotated["Bounds | None", Depends(current_bounds)]


class PageFit(Enum):
    """What becomes of the next event of a stream."""

    FITS = "fits"
    NEXT_PAGE = "next page"
    """This page ends before it."""
    TOO_LARGE = "too large"
    """No page could ever hold it."""


@dataclass(slots=True)
class Page:
    """What one answer of a stream holds, and until when it may grow."""

    live: bool
    until: float
    size: int = 0
    """Bytes: as they go out, or as they are counted where the answer is collected."""
    named: bool = False
    """Whether it holds an event. An answer without one counts as a failed try of the client."""

    def size_of(self, frame: bytes) -> int:
        """The bytes of a frame, counted as `size` is."""
        return len(frame) if self.live else escaped_size(frame)

    def judge(self, size: int) -> PageFit:
        if not self.live and size > RESPONSE_BYTES:
            return PageFit.TOO_LARGE
        if self.named and self.size + size > self._most:
            return PageFit.NEXT_PAGE
        return PageFit.FITS

    def add(self, size: int, now: float) -> None:
        """An event that fits."""
        if not self.named and not self.live:
            self.until = min(self.until, now + AFTER_FIRST_SECONDS)
        self.named = True
        self.size += size

    def is_over(self, now: float) -> bool:
        return now >= self.until or self.size >= self._most

    @property
    def _most(self) -> int:
        return LIVE_BYTES if self.live else PAGE_BYTES
