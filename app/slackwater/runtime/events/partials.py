"""Restores partial messages and states from their deltas, for readers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

import orjson

from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE
from slackwater.runtime.events.deltas import LEAST_BYTES, PARTIAL, Said, Series, applied, is_state, name_of
from slackwater.runtime.events.journal import Event, EventId, event_of
from slackwater.runtime.events.packs import PACK, unpacked

if TYPE_CHECKING:
    from slackwater.postgres.pool import Database
    from slackwater.runtime.events.thread_reader import ThreadEvent

AGAIN_SECONDS = 0.1
"""The pause between two attempts to read while the database is away."""

# Rows of one series only: others in between are not read.
_SINCE_WHOLE = """
select fence, seq, event, data from slackwater.run_events
where run_id = %(run_id)s and fence = %(fence)s and seq between %(whole)s and (
    select min(b.seq) from slackwater.run_events b
    where b.run_id = %(run_id)s and b.fence = %(fence)s and b.seq >= %(base)s)
  and (seq = %(whole)s or (event = any(%(delta)s) and starts_with(data, %(mine)s))) order by seq"""

E = TypeVar("E", Event, "ThreadEvent")


class Partials:
    """Restores the events of one reader's rows."""

    def __init__(self, database: Database, is_over: Callable[[], bool]) -> None:
        """`is_over`: the reader has been let go, and no longer waits for the database."""
        self._database = database
        self._is_over = is_over
        self._series: Series[tuple[int, int]] = Series()
        """By fence, and `seq` of the last whole event."""
        self._lost: tuple[int, int] | None = None

    async def restored(
        self, rows: Sequence[E], run_id: UUID | None, most: int, after: EventId
    ) -> AsyncGenerator[list[E]]:
        """The rows' events after this id as they were published, in batches of about `most` bytes.

        `run_id`: the run of all rows; None if each row has its own.
        """
        batch: list[E] = []
        size = 0
        for row in rows:
            for event in unpacked(row, after):
                said = await self.whole(event, run_id)
                if said is not None:
                    batch.append(said)
                    size += len(said.data)
                if size >= most:
                    yield batch
                    batch, size = [], 0
        if batch:
            yield batch

    async def whole(self, event: E, run_id: UUID | None) -> E | None:
        """The event as it was published. If it cannot be restored any more: a `gap` the first time, then None."""
        name = name_of(event.name)
        if name is not None:
            return await self._restored(event, name, run_id)
        if event.name == PARTIAL or (is_state(event.name) and len(event.data) >= LEAST_BYTES):
            self._series.of(event.name)[event.id] = Said(event.data, event.id.seq)
        return event

    async def _restored(self, event: E, name: str, run_id: UUID | None) -> E | None:
        fence, seq = event.id
        whole, base, head, tail, middle = orjson.loads(event.data)
        recent = self._series.of(name)
        known = recent[fence, whole]
        if (
            known is None or known.seq != base
        ):  # the reader starts here, or read the events before from memory
            run_id = run_id or getattr(event, "run_id", None)
            known = await self._read(run_id, event.name, fence, whole, base)
        if known is None:
            # Deleted between two reads, with everything before it.
            announced, self._lost = self._lost == (fence, whole), (fence, whole)
            return None if announced else event._replace(name="gap", data=b'{"first_available_id":null}')
        data = applied(known.data, head, tail, middle)
        recent[fence, whole] = Said(data, seq)
        return event._replace(name=name, data=data)

    async def _read(self, run_id: UUID | None, delta: str, fence: int, whole: int, base: int) -> Said | None:
        """The event with the seq `base`, restored from the table; None if it is gone."""
        rows = None
        wanted = {
            "run_id": run_id,
            "fence": fence,
            "whole": whole,
            "base": base,
            "delta": [delta, f"{PACK}{delta}"],
            "mine": f"[{whole},",
        }
        while rows is None:
            try:
                rows = await self._database.fetch(_SINCE_WHOLE, wanted)
            except DATABASE_UNAVAILABLE:
                if self._is_over():
                    raise
                await asyncio.sleep(AGAIN_SECONDS)
        if not rows or rows[0]["seq"] != whole:
            return None
        said = Said(rows[0]["data"].encode(), whole)
        for row in rows[1:]:
            for event in unpacked(event_of(row), EventId(fence, whole)):
                if event.id.seq <= base:
                    said.data, said.seq = applied(said.data, *orjson.loads(event.data)[2:]), event.id.seq
        return said if said.seq == base else None
