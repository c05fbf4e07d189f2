"""A request that is answered with what a run has to say: its events as they come, or its values when it has ended."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode
from uuid import UUID, uuid4

import orjson
from fastapi import Response

from slackwater.api.runs import service
from slackwater.api.runs.models import READABLE
from slackwater.api.runs.pages import PagedStream
from slackwater.errors import ApiError, Invalid, StillRunning
from slackwater.identity.permissions import Permission
from slackwater.identity.principal import Principal
from slackwater.kit import json_format, sse
from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE
from slackwater.runtime.events.journal import BEGINNING, EventId
from slackwater.runtime.events.run_reader import RunGone, StreamCut
from slackwater.runtime.execution.encoding import matches
from slackwater.runtime.queue.cancel import READER_GONE, CancelAction
from slackwater.web.streams.bounds import Bounds
from slackwater.web.streams.response import Left, OpenResponse

if TYPE_CHECKING:
    from slackwater.services import Services

_TRUE = frozenset({"1", "true", "yes"})
_BASE_OF_NAME = re.compile(r"[|/]")
"""`updates|child:…` and `messages/partial` are names of events, too."""


def is_true(text: str) -> bool:
    """What a parameter of a query says."""
    return text.lower() in _TRUE


def cancels_run(cancel_on_disconnect: str, principal: Principal) -> bool:
    """Whether the run is cancelled when its reader goes away. Raises Forbidden for a key that may only read."""
    cancels = is_true(cancel_on_disconnect)
    if cancels:
        principal.require(Permission.RUNS_CANCEL)
    return cancels


def modes_of(text: str | None) -> list[str]:
    """One mode, or a JSON array of modes; nothing means all that the run publishes."""
    if not text:
        return []
    try:
        modes = orjson.loads(text) if text.startswith("[") else [text]
    except orjson.JSONDecodeError:
        raise Invalid("stream_mode: must be a mode or a JSON array of modes") from None
    for mode in modes:
        if not isinstance(mode, str) or _BASE_OF_NAME.split(mode, maxsplit=1)[0] not in READABLE:
            raise Invalid(f"stream_mode: {mode!r} is not one of {', '.join(sorted(READABLE))}")
    return list(modes)


@dataclass(frozen=True, slots=True)
class Reading:
    """A request that is answered with what a run has to say."""

    services: Services
    principal: Principal
    thread_id: UUID
    run_id: UUID
    bounds: Bounds | None
    cancels: bool = False
    """The run is cancelled when its reader leaves."""
    base: str = ""
    """What Content-Location begins with. A Location has none: the SDKs append it to the URL that they were given."""

    @classmethod
    def of(
        cls, created: service.Created, services: Services, bounds: Bounds | None, base: str = ""
    ) -> Reading:
        cancels = created.on_disconnect == "cancel"
        return cls(services, created.principal, created.thread_id, created.run_id, bounds, cancels, base)

    @classmethod
    async def find(
        cls,
        services: Services,
        principal: Principal,
        thread_id: UUID,
        run_id: UUID,
        bounds: Bounds | None,
        cancels: bool = False,
        base: str = "",
    ) -> Reading | None:
        """Of a run that another request has started; None if there is no such run.

        Raises RefusedByAuth, and NotFound for a thread that is hidden.
        """
        principal = await service.listener_of(services, principal, thread_id, run_id)
        row = await service.find(services, principal, thread_id, run_id)
        if row is None:
            return None
        if row["reader_left_at"] is not None:
            await service.reader_back(services, run_id)
        return cls(services, principal, thread_id, run_id, bounds, cancels, base)

    @property
    def path(self) -> str:
        return service.path_of(self.thread_id, self.run_id)

    @property
    def shown_path(self) -> str:
        """Where the run is. Nothing follows its id: that is how the SDKs learn it."""
        return self.base + self.path

    @property
    def join(self) -> str:
        """Where the same is waited for again."""
        return f"{self.path}/join" + ("?cancel_on_disconnect=1" if self.cancels else "")

    async def cut(self) -> None:
        """The answer ends before the run does."""
        # If it is not recorded, the run goes on without him: an answer that is complete is not given up for that.
        if self.cancels:
            with suppress(*DATABASE_UNAVAILABLE):
                await service.reader_cut(self.services, self.run_id)

    async def left(self, how: Left) -> None:
        """A reader is gone. Only if he left by himself does his run end with him."""
        if not self.cancels or how is Left.ENDED:
            return
        if how is Left.DISCONNECTED and not self.services.runtime.draining:
            await self.services.runtime.cancel(
                self.principal.owner, self.thread_id, [self.run_id], CancelAction.INTERRUPT, READER_GONE
            )
        else:
            await service.reader_cut(self.services, self.run_id)


async def streamed(reading: Reading, content_location: str | None = None) -> Response:
    """The events of a run that this request has started."""
    return await events_of(reading, BEGINNING, [], content_location=content_location, starts=True)


async def waited(reading: Reading) -> Response:
    """The values of a run that this request has started, or cancelled."""
    return await values_of(reading, StillRunning(reading.join))


async def joined(
    reading: Reading, modes: list[str], last_event_id: str | None, reader: UUID | None
) -> Response:
    """The events of a run that another request has started: those after an id, `-1` being all; without one only what is new."""
    if reader is not None:
        await service.reader_returns(reading.services, reading.run_id, reader)
    if last_event_id is None:
        cursor = await reading.services.runtime.newest(reading.run_id)
    else:
        cursor = EventId.parse(last_event_id) or BEGINNING
    return await events_of(reading, cursor, modes, reader=reader)


async def events_of(
    reading: Reading,
    cursor: EventId,
    modes: list[str],
    *,
    content_location: str | None = None,
    reader: UUID | None = None,
    starts: bool = False,
) -> Response:
    services, run_id, bounds = reading.services, reading.run_id, reading.bounds
    # The SDK drops its query parameters when it reconnects: what it asked for has to be in the Location.
    query = {"stream_mode": orjson.dumps(modes).decode()} if modes else {}
    if reading.cancels:
        query["cancel_on_disconnect"] = "1"
    stream = None
    if bounds is not None:
        reader = reader or uuid4()
        query["reader"] = str(reader)
        stream = PagedStream(
            services, run_id, cursor, modes=modes, bounds=bounds, reader=reader, starts=starts
        )
    location = f"{reading.path}/stream" + (f"?{urlencode(query)}" if query else "")
    headers = {
        **sse.HEADERS,
        "location": location,
        "content-location": content_location or reading.shown_path,
    }
    if stream is not None and not stream.live:
        page = b"".join([chunk async for chunk in stream.frames()])
        if not stream.over:
            await reading.cut()
        return Response(page, headers=headers, media_type=sse.MEDIA_TYPE)

    async def left(how: Left) -> None:
        sent_away = how is Left.ENDED and stream is not None and not stream.over
        await reading.left(Left.CUT if sent_away else how)

    return OpenResponse(
        stream.frames() if stream is not None else _frames(services, run_id, cursor, modes),
        media_type=sse.MEDIA_TYPE,
        headers=headers,
        heartbeat=sse.HEARTBEAT,
        seconds=services.settings.heartbeat_seconds,
        left=left,
    )


async def _frames(
    services: Services, run_id: UUID, cursor: EventId, modes: list[str]
) -> AsyncGenerator[bytes]:
    has_id = False
    # A client that is cut off before its first event needs an id to come back with: a frame with an id only
    # moves its cursor and is not an event.
    if not services.runtime.works_on(run_id):
        has_id = True
        yield sse.id_only(str(cursor))
    try:
        async with aclosing(services.runtime.follow(run_id, cursor)) as batches:
            async for batch in batches:
                wanted = [event for event in batch if matches(event.name, modes)]
                if wanted:
                    has_id = True
                    yield b"".join(sse.frame(e.name, e.data, str(e.id)) for e in wanted)
    except RunGone:
        yield sse.frame("error", json_format.dumps(service.NOT_FOUND), None)
    except StreamCut:
        if not has_id:
            yield sse.id_only(str(cursor))
        raise


async def values_of(reading: Reading, late: ApiError) -> Response:
    """The run's final values, when it has ended. Raises `late` where it does not within the bounds of a collected answer."""
    bounds = reading.bounds
    headers = {"location": reading.join, "content-location": reading.shown_path}
    if bounds is not None and not bounds.live:
        # Not begun before its end: what is sent is collected, and only the end tells which status it has.
        try:
            body = await _final_values(reading)
        except (StreamCut, *DATABASE_UNAVAILABLE):
            await reading.cut()
            raise late from None
        return Response(body, headers=headers, media_type="application/json")

    async def whole() -> AsyncGenerator[bytes]:
        # At once: the client has to know the Location before anything can be cut.
        yield b"\n"
        yield await _final_values(reading)

    return OpenResponse(
        whole(),
        media_type="application/json",
        headers=headers,
        heartbeat=b"\n",
        seconds=reading.services.settings.heartbeat_seconds,
        left=reading.left,
    )


async def _final_values(reading: Reading) -> bytes:
    until = None if reading.bounds is None else reading.bounds.wait_until
    return await service.body(
        reading.services, reading.principal, reading.thread_id, reading.run_id, until=until
    )
