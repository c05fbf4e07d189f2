"""The stream of a thread: what happens on it, run after run, by server-sent events."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from typing import TYPE_CHECKING
from uuid import UUID

from slackwater.errors import EventTooLarge, Invalid
from slackwater.identity.principal import Principal
from slackwater.kit import json_format, sse
from slackwater.runtime.events.journal import BEGINNING, EventId
from slackwater.runtime.events.run_reader import RunGone, StreamCut
from slackwater.runtime.events.thread_reader import RUN_DONE, ThreadEvent
from slackwater.web.streams.bounds import Bounds, Page, PageFit

if TYPE_CHECKING:
    from slackwater.services import Services

MODES = ("run_modes", "lifecycle", "state_update")
ALL = "-"
"""The `Last-Event-ID` before the first event."""

_EVENT_ID = re.compile(r"\d{1,18}(-(\d{1,9}|\*))?")


def parse_modes(texts: Collection[str]) -> frozenset[str]:
    """The modes of a request, each of its texts being one or several with commas. Raises Invalid."""
    modes = [mode.strip() for text in texts for mode in text.split(",") if mode.strip()]
    for mode in modes:
        if mode not in MODES:
            raise Invalid(f"Invalid stream mode: {mode}")
    return frozenset(modes or MODES[:1])


def parse_cursor(text: str) -> EventId:
    """The event to go on after. Raises Invalid."""
    text = text.strip()
    if text == ALL:
        return BEGINNING
    if not _EVENT_ID.fullmatch(text):
        raise Invalid("Invalid last-event-id: must be a valid Redis stream ID")
    fence, _, seq = text.partition("-")
    return EventId(int(fence), int(seq) if seq.isdecimal() else 0 if not seq else 2**31 - 1)


def frame_of(event: ThreadEvent, modes: Collection[str]) -> bytes | None:
    """The event as a reader of these modes gets it; None if he does not want it."""
    name, data = event.name, event.data
    if name == RUN_DONE:
        name, data = "metadata", json_format.dumps({"status": RUN_DONE, "run_id": data.decode()})
    wanted = (
        name == "gap"
        or (name == "state_update" and "state_update" in modes)
        or (name == "metadata" and "lifecycle" in modes)
        or (name != "state_update" and "run_modes" in modes)
    )
    return sse.frame(name, data, str(event.id)) if wanted else None


async def frames(
    services: Services, principal: Principal, thread_id: UUID, cursor: EventId, modes: Collection[str]
) -> AsyncGenerator[bytes]:
    """The stream. It ends with the thread; raises StreamCut when this process leaves."""
    # Who is cut off before his first event has to know where to come back to.
    yield sse.id_only(str(cursor))
    log = services.runtime.thread_log
    try:
        async with aclosing(log.follow(principal.owner, thread_id, cursor)) as batches:
            async for batch in batches:
                wanted = [frame for event in batch if (frame := frame_of(event, modes)) is not None]
                # What he does not get moves his cursor, too: he need not be sent through it again.
                yield b"".join(wanted) or sse.id_only(str(batch[-1].id))
    except RunGone:
        return


async def page(
    services: Services,
    principal: Principal,
    thread_id: UUID,
    cursor: EventId,
    modes: Collection[str],
    bounds: Bounds,
) -> AsyncGenerator[bytes]:
    """As much of the stream as fits into one answer. A live one is then cut, so that its reader comes back."""
    yield sse.id_only(str(cursor))
    room = Page(bounds.live, bounds.page_until)
    log = services.runtime.thread_log
    try:
        async with aclosing(log.follow(principal.owner, thread_id, cursor)) as batches:
            while not room.is_over(time.monotonic()):
                async with asyncio.timeout(room.until - time.monotonic()):
                    batch = await anext(batches)
                for event in batch:
                    frame = frame_of(event, modes)
                    if frame is None:
                        yield sse.id_only(str(event.id))
                        continue
                    size = room.size_of(frame)
                    match room.judge(size):
                        case PageFit.NEXT_PAGE:
                            raise TimeoutError
                        case PageFit.TOO_LARGE:
                            error = EventTooLarge(event.name, str(event.id), size)
                            frame = sse.frame(
                                "error", json_format.dumps(json_format.error_object(error)), str(event.id)
                            )
                            size = len(frame)
                    room.add(size, time.monotonic())
                    yield frame
    except RunGone:
        return
    except (TimeoutError, StreamCut):
        pass
    if room.live:
        raise StreamCut
