"""What the runs of a process store, with one statement for all of them: each under its own fence."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from slackwater.postgres.arrays import IntArray, LongArray, TextArray, UuidArray
from slackwater.postgres.group_commit import Kind
from slackwater.postgres.prepared import HotStatement
from slackwater.runtime.events.journal import Event
from slackwater.runtime.fenced.statements import EVENTS_OF_MANY, ORDER, Insert, columns, event_columns_of_many
from slackwater.runtime.queue.lease import Lease


@dataclass(frozen=True, slots=True)
class Store:
    """What one run stores."""

    lease: Lease
    input_step: int | None
    """The run's first step, if its input is stored with this."""
    rows: Mapping[Insert, Collection[Sequence[Any]]]
    """Each of its keys once; none of them empty."""
    events: Sequence[Event]


class Gathering(Protocol):
    """Who gathers things to store until they are sent."""

    @property
    def gathered_bytes(self) -> int:
        """About how much has gathered."""

    def take(self) -> Store | None:
        """What has gathered, and is sent now; None if it needs a statement of its own."""


# A row that somebody has locked is passed over: its run then waits alone. So no transaction of many runs ever waits for
# another one. FOR SHARE conflicts with a take-over's UPDATE; FOR KEY SHARE would not.
_MINE = """
 select w.n, r.run_id, r.fence, r.thread_id, w.step
 from unnest(%(r0)b::int[], %(r1)b::uuid[], %(r2)b::bigint[], %(r3)b::text[], %(r4)b::int[])
   as w(n, run_id, fence, worker, step)
 join slackwater.runs r on r.run_id = w.run_id and r.fence = w.fence and r.worker = w.worker and r.status = 'running'
   and r.epoch = (select slackwater.epoch())
 where w.step is {step} for {lock} of r skip locked"""
# What will be updated is locked for that at once: two that only shared the row would wait for each other.
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
    """The statement that has those parts."""
    parts = [_OWNED, *(insert.of_many() for insert in inserts), *([_EVENTS] if events else [])]
    return f"with {', '.join(parts)} select n from owned"


def _statement(gatherings: Sequence[Gathering]) -> HotStatement:
    # Who has something else than it seemed is not in the statement, and so not in its answer.
    stores = {n: store for n, who in enumerate(gatherings, 1) if (store := who.take()) is not None}
    params: dict[str, Any] = {}
    runs = [
        (n, store.lease.run_id, store.lease.fence, store.lease.worker, store.input_step)
        for n, store in stores.items()
    ]
    columns(params, "r", runs, _RUN_TYPES)
    rows: dict[Insert, list[Sequence[Any]]] = {}
    numbers: dict[Insert, list[int]] = {}
    for n, store in stores.items():
        for insert, its_rows in store.rows.items():
            rows.setdefault(insert, []).extend(its_rows)
            numbers.setdefault(insert, []).extend([n] * len(its_rows))
    for insert in rows:
        insert.add(params, rows[insert])
        params[f"{insert.prefix}n"] = IntArray(numbers[insert])
    events = {n: store.events for n, store in stores.items() if store.events}
    if events:
        params |= event_columns_of_many(events)
    return text(tuple(insert for insert in ORDER if insert in rows), bool(events)), params


STORE: Kind[Gathering] = Kind("store", statement=_statement, bytes_of=lambda who: who.gathered_bytes)
"""One row `n` for each run whose fence has held, and whose row nobody had locked."""
