"""One statement that stores what several runs of a process have queued, each under its own fence."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from slackwater.postgres.arrays import IntArray, LongArray, TextArray, UuidArray
from slackwater.postgres.group_commit import Kind
from slackwater.postgres.prepared import HotStatement
from slackwater.runtime.events.journal import Event
from slackwater.runtime.fenced.records import MESSAGES, USAGE
from slackwater.runtime.fenced.statements import (
    EVENTS_OF_MANY,
    ORDER,
    Insert,
    add_of_many,
    columns,
    event_columns_of_many,
)
from slackwater.runtime.queue.lease import Lease


@dataclass(frozen=True, slots=True)
class Store:
    """What one run stores."""

    lease: Lease
    input_step: int | None
    """The run's first step, if this stores its input."""
    rows: Mapping[Insert, Collection[Sequence[Any]]]
    """Without duplicate keys, and without empty collections."""
    events: Sequence[Event]


class Gathering(Protocol):
    """Queues what is to be stored until it is sent."""

    @property
    def gathered_bytes(self) -> int:
        """Approximate size of the queue."""

    def take(self) -> Store | None:
        """Take what is queued, to send it now; None if it needs a statement of its own."""


# A locked row is skipped, and its run is stored alone, so that no transaction of many runs waits for another.
# FOR SHARE conflicts with a take-over's UPDATE; FOR KEY SHARE would not.
_MINE = """
 select w.n, r.run_id, r.fence, r.thread_id, w.step
 from unnest(%(r0)b::int[], %(r1)b::uuid[], %(r2)b::bigint[], %(r3)b::text[], %(r4)b::int[])
   as w(n, run_id, fence, worker, step)
 join slackwater.runs r on r.run_id = w.run_id and r.fence = w.fence and r.worker = w.worker and r.status = 'running'
   and r.epoch = (select slackwater.epoch())
 where w.step is {step} for {lock} of r skip locked"""
# Rows to be updated are locked for update at once: two sharers of a row would deadlock on the upgrade.
_OWNED = f"""storing as ({_MINE.format(step="null", lock="share")}
), applying as ({_MINE.format(step="not null", lock="no key update")}
), owned as (
 select * from storing union all select * from applying
), applied as (
 update slackwater.runs r set input_applied = true, input_step = a.step from applying a where r.run_id = a.run_id)"""
_RUN_TYPES = (IntArray, UuidArray, LongArray, TextArray, IntArray)
_EVENTS = f"events as ({EVENTS_OF_MANY})"


@lru_cache
def text(inserts: tuple[Insert, ...], events: bool) -> str:
    """The statement with these parts."""
    parts = [_OWNED, *(insert.of_many() for insert in inserts), *([_EVENTS] if events else [])]
    return f"with {', '.join(parts)} select n from owned"


def _statement(gatherings: Sequence[Gathering]) -> HotStatement:
    # A writer whose queue needs a statement of its own after all is left out, and so missing from the response.
    stores = {n: store for n, who in enumerate(gatherings, 1) if (store := who.take()) is not None}
    params: dict[str, Any] = {}
    runs = [
        (n, store.lease.run_id, store.lease.fence, store.lease.worker, store.input_step)
        for n, store in stores.items()
    ]
    columns(params, "r", runs, _RUN_TYPES)
    inserts = add_of_many(params, {n: store.rows for n, store in stores.items()})
    events = {n: store.events for n, store in stores.items() if store.events}
    if events:
        params |= event_columns_of_many(events)
    return text(
        tuple(insert for insert in (*ORDER, MESSAGES, USAGE) if insert in inserts), bool(events)
    ), params


STORE: Kind[Gathering] = Kind("store", statement=_statement, bytes_of=lambda who: who.gathered_bytes)
"""Returns a row `n` for each run whose fence held and whose row was not locked."""
