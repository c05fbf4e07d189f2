"""One page of a run's stream: it ends cleanly before its run has, and its reader comes back for the next one.

The stock client takes a clean end for the end of the run, unless the run is shown as pending or running when it
asks. So every reader who is sent away is recorded first, and his run is shown as running until he is back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING
from uuid import UUID

from slackwater.api.runs import service
from slackwater.errors import EventTooLarge
from slackwater.kit import json_format, sse
from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE
from slackwater.runtime.events.journal import Event, EventId
from slackwater.runtime.events.run_reader import RunGone, StreamCut
from slackwater.runtime.execution.encoding import matches
from slackwater.telemetry import metrics
from slackwater.telemetry.metrics import Metric
from slackwater.web.streams.bounds import SEND_SECONDS, Bounds, Page, PageFit

if TYPE_CHECKING:
    from slackwater.services import Services


log = logging.getLogger(__name__)

OTHERS_SECONDS = 0.2
"""How often it is looked whether the other readers of a run are back."""


class PagedStream:
    """What one request of a reader gets to see. `reader` is the same over all pages of one client."""

    def __init__(
        self,
        services: Services,
        run_id: UUID,
        cursor: EventId,
        *,
        modes: Sequence[str],
        bounds: Bounds,
        reader: UUID,
        starts: bool,
    ) -> None:
        """`starts`: this request has started the run, so it must not fail: who repeats it would start another one."""
        self._services = services
        self._run_id = run_id
        self._cursor = cursor
        self._modes = modes
        self._until = bounds.until
        self._page = Page(bounds.live, bounds.page_until)
        self._reader = reader
        self._starts = starts
        self._cut = False
        self._refused = False

    @property
    def live(self) -> bool:
        return self._page.live

    @property
    def over(self) -> bool:
        """Whether its run has ended. If not, the reader was sent away, or met an event that is too large."""
        return not self._cut and not self._refused

    async def frames(self) -> AsyncGenerator[bytes]:
        """The page. Raises DATABASE_UNAVAILABLE if it could not be recorded that the reader will come back."""
        if self._page.live:
            # A reader who is cut off before their first event needs an id to come back with.
            yield sse.id_only(str(self._cursor))
        try:
            async with aclosing(self._read()) as chunks:
                async for chunk in chunks:
                    yield chunk
        except (StreamCut, *DATABASE_UNAVAILABLE):
            self._cut = True
        except RunGone:
            yield sse.frame("error", json_format.dumps(service.NOT_FOUND), None)
            return
        if not self._cut:
            if not self._page.named:
                await self._wait_for_others()
            return
        attempt = await self._leave()
        if not self._page.named:
            # Five answers without an event, and the client gives up. This one keeps its cursor where it is.
            filler = json_format.dumps({"run_id": str(self._run_id), "attempt": attempt})
            yield sse.frame("metadata", filler, str(self._cursor))

    async def _leave(self) -> int:
        metrics.count(Metric.STREAM_PAGES)
        try:
            async with asyncio.timeout(self._until - SEND_SECONDS - time.monotonic()):
                return await service.reader_leaves(self._services, self._run_id, self._reader)
        except DATABASE_UNAVAILABLE:
            if self.live or not self._starts:
                raise
            # The client asks what has become of the run, and as long as we cannot answer that either, it comes back.
            log.warning("the end of a reader's page was not recorded", extra={"event": "stream.unrecorded"})
            return 1

    async def _wait_for_others(self) -> None:
        """An answer that has only the end to say waits until the run is shown as ended.

        It is shown as running while another reader is between two pages. This one's client would come back again and
        again for nothing, and give up.
        """
        with suppress(*DATABASE_UNAVAILABLE):
            while time.monotonic() < self._page.until:
                if not await service.readers_are_away(self._services, self._run_id):
                    return
                await asyncio.sleep(OTHERS_SECONDS)

    async def _read(self) -> AsyncGenerator[bytes]:
        async with aclosing(self._batches()) as batches:
            async for batch in batches:
                chunk = b"".join(self._take(batch))
                if chunk:
                    yield chunk
                if self._cut or self._refused:
                    return

    def _take(self, batch: Sequence[Event]) -> list[bytes]:
        """The frames of those events that are wanted and still fit."""
        frames: list[bytes] = []
        for event in batch:
            if matches(event.name, self._modes):
                frame = sse.frame(event.name, event.data, str(event.id))
                size = self._page.size_of(frame)
                match self._page.judge(size):
                    case PageFit.NEXT_PAGE:
                        self._cut = True
                        return frames
                    case PageFit.TOO_LARGE:
                        self._refused = self._page.named = True
                        frames.append(_refusal(event, size))
                        return frames
                frames.append(frame)
                self._page.add(size, time.monotonic())
            self._cursor = event.id
        return frames

    async def _batches(self) -> AsyncGenerator[list[Event]]:
        """The run's events, until its end or the page's."""
        async with aclosing(self._services.runtime.follow(self._run_id, self._cursor)) as batches:
            while not self._page.is_over(time.monotonic()):
                try:
                    async with asyncio.timeout(self._page.until - time.monotonic()) as patience:
                        batch = await anext(batches)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    if not patience.expired():
                        raise
                    break
                yield batch
        self._cut = True


def _refusal(event: Event, size: int) -> bytes:
    """The event's place in the stream is taken by an error that has its id: whoever wants to go on after it can."""
    error = EventTooLarge(event.name, str(event.id), size)
    facts = {
        "event_id": str(event.id),
        "event": event.name,
        "bytes": size,
        "limit": json_format.RESPONSE_BYTES,
    }
    return sse.frame("error", json_format.dumps({**json_format.error_object(error), **facts}), str(event.id))
