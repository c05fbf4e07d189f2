"""A thread's events by server-sent events: protocol v2 over HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from slackwater.errors import EventTooLarge
from slackwater.kit import json_format, sse
from slackwater.protocols.events.feed import Feed
from slackwater.protocols.events.subscription import Subscription
from slackwater.protocols.events.translation import Envelope
from slackwater.runtime.events.run_reader import StreamCut
from slackwater.web.streams.bounds import AFTER_FIRST_SECONDS, Bounds, Page, PageFit

PAGE_SECONDS = 4.0
"""The stock Python client gives the headers of an answer five seconds, and a collected one has none before its end."""


async def frames(feed: Feed, wanted: Subscription) -> AsyncGenerator[bytes]:
    """The stream. It has no end; raises StreamCut when this process leaves."""
    async with aclosing(feed.batches()) as batches:
        async for batch in batches:
            if chunk := b"".join([*_gap(feed), *(frame(event) for event in batch if wanted.wants(event))]):
                yield chunk


async def page(feed: Feed, wanted: Subscription, bounds: Bounds) -> AsyncGenerator[bytes]:
    """As much of the stream as fits into one answer. A live one is then cut; a collected one ends.

    The stock Python client takes the end of an answer for the end of the thread. So a collected one holds everything
    up to the end of a run, if that comes in time.
    """
    until = bounds.page_until if bounds.live else min(bounds.page_until, time.monotonic() + PAGE_SECONDS)
    room, full = Page(bounds.live, until), False
    try:
        async with aclosing(feed.batches()) as batches:
            while not full and not room.is_over(time.monotonic()):
                async with asyncio.timeout(room.until - time.monotonic()):
                    batch = await anext(batches)
                chunks, full = _fitting(batch, wanted, room)
                for chunk in [*_gap(feed), *chunks]:
                    yield chunk
                if not room.live and room.named and feed.resting:
                    room.until = min(room.until, time.monotonic() + AFTER_FIRST_SECONDS)
    except (TimeoutError, StreamCut):
        pass
    if room.live:
        raise StreamCut


def frame(event: Envelope) -> bytes:
    """The event as it is sent."""
    return sse.frame(event.method, event.dumps(), str(event.seq))


def _gap(feed: Feed) -> list[bytes]:
    missing, feed.missing = feed.missing, None
    return [sse.frame("error", json_format.dumps(missing.notice()), None)] if missing else []


def _fitting(batch: Sequence[Envelope], wanted: Subscription, room: Page) -> tuple[list[bytes], bool]:
    """The frames of those events that are wanted, as far as they fit; whether the page is full."""
    chunks: list[bytes] = []
    for event in batch:
        if not wanted.wants(event):
            continue
        chunk = frame(event)
        size = room.size_of(chunk)
        match room.judge(size):
            case PageFit.NEXT_PAGE:
                return chunks, True
            case PageFit.TOO_LARGE:
                chunk = _refusal(event, size)
                size = len(chunk)
        room.named, room.size = True, room.size + size
        chunks.append(chunk)
    return chunks, False


def _refusal(event: Envelope, size: int) -> bytes:
    """Takes the place of an event that no answer can hold, and has its number: what follows can be read."""
    notice = {
        "type": "error",
        "id": None,
        "error": "event_too_large",
        "message": str(EventTooLarge(event.method, event.event_id, size)),
        "seq": event.seq,
        "event_id": event.event_id,
        "limit": json_format.RESPONSE_BYTES,
    }
    return sse.frame("error", json_format.dumps(notice), str(event.seq))
