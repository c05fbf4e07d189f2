"""The common settlements, for several attempts with one statement: an end with no other active run on the thread, and a
hand-over that no guard turns into an error.

Takes no lock that it would have to wait for. An attempt that is missing from the response is unchanged, as are all if there
is no response. It is then settled alone (`settlement`), which is idempotent: a lost response does no harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slackwater.postgres.arrays import IntArray, JsonbArray, LongArray, TextArray, UuidArray
from slackwater.postgres.group_commit import GroupCommit, Kind
from slackwater.postgres.prepared import HotStatement
from slackwater.runtime.fenced.records import size_of
from slackwater.runtime.fenced.settlement import (
    THIS_SERVER,
    End,
    HandOver,
    Settled,
    count_end,
    count_hand_over,
    ended,
    given_back,
    of_end,
    of_hand_over,
    owned,
    records_in_order,
    shown,
    with_inserts,
)
from slackwater.runtime.fenced.statements import EVENTS_OF_MANY, add_of_many, event_columns_of_many
from slackwater.runtime.fenced.stores import STORE, Gathering
from slackwater.runtime.queue.claims import MAX_STALLS, PROGRESS
from slackwater.runtime.queue.many import (
    UNCHANGED,
    Asked,
    dumped,
    of_each,
)
from slackwater.runtime.queue.states import ACTIVE, RunStatus

_ATTEMPT = {
    "run_id": UuidArray,
    "thread_id": UuidArray,
    "owner": TextArray,
    "fence": LongArray,
    "worker": TextArray,
    "checkpoint_id": TextArray,
    "stored_with": TextArray,
}

_STORED = """(a.stored_with is null or exists (select 1 from checkpoints c
    where c.thread_id = a.thread_id::text and c.checkpoint_ns = '' and c.checkpoint_id = a.stored_with))"""
"""If this transaction was to store the attempt's last checkpoint, it did."""

# Rows are looked up one by one, or by an array, so that no row estimate makes the planner scan a table.

_LOCKED = """locked as materialized (
  select a.*, t.version from asked a cross join lateral (
    select t.xmin as version from slackwater.threads t where t.thread_id = a.thread_id and t.owner = a.owner
    for update skip locked) t
)"""
"""The rows of `asked` whose thread nobody else has locked. Threads are locked first, as everywhere."""

_SIGNED = "settled_by = a.worker, settled_fence = a.fence"

_ASKED_TO_END = Asked(
    {
        **_ATTEMPT,
        **dict.fromkeys(("status", "reason", "last_event", "thread_status", "values"), TextArray),
        **dict.fromkeys(("error", "interrupts", "thread_error"), JsonbArray),
    }
)


_END = f"""
with {_ASKED_TO_END.cte}, {_LOCKED}, owned as materialized (
  select a.* from locked a cross join lateral (
    select 1 from slackwater.runs r where {owned(of_each)} and {THIS_SERVER} for update skip locked) r
  where {UNCHANGED} and {_STORED}
    and not exists (select 1 from slackwater.runs o where o.thread_id = a.thread_id
      and o.status in {ACTIVE} and o.run_id <> a.run_id)
), ended as (
  update slackwater.runs r set {ended(of_each)}, {_SIGNED}
  from owned a where r.run_id = any(array(select o.run_id from owned o)) and r.run_id = a.run_id
), events as ({EVENTS_OF_MANY}
)"""
_ENDED = f""", forgotten as (
  delete from slackwater.base_writes b where b.run_id = any(array(select o.run_id from owned o))
), shown as (
  update slackwater.threads t set {shown(of_each)}, status = a.thread_status, error = a.thread_error
  from owned a where t.thread_id = any(array(select o.thread_id from owned o)) and t.thread_id = a.thread_id
)
select o.n::int from owned o"""


def _end_all(hows: Sequence[End]) -> HotStatement:
    params = _ASKED_TO_END.parameters([dumped(of_end(how)) for how in hows])
    return _with_the_rest(_END, _ENDED, params, hows)


_ASKED_TO_HAND_OVER = Asked(
    {**_ATTEMPT, "stopped": TextArray, "reason": TextArray, "max_handovers": IntArray},
)


_HAND_OVER = f"""
with {_ASKED_TO_HAND_OVER.cte}, {_LOCKED}, owned as materialized (
  select a.* from locked a cross join lateral (
    select 1 from slackwater.runs r where {owned(of_each)} and {THIS_SERVER}
      and r.handovers < a.max_handovers and r.stalls < {MAX_STALLS} for update skip locked) r
  where {_STORED}
), now as materialized (
  select r.n, {PROGRESS} as progress from owned r
), given_back as (
  -- It keeps its thread, so it is the run that comes next there, and no other one is ready.
  update slackwater.runs r set {given_back(of_each)}, ready = true, {_SIGNED}
  from owned a join now on now.n = a.n
  where r.run_id = any(array(select o.run_id from owned o)) and r.run_id = a.run_id
  returning r.run_id, r.available_at <= clock_timestamp() as due
), events as ({EVENTS_OF_MANY})"""
_HANDED_OVER = """
select o.n::int, g.due from owned o join given_back g using (run_id)"""


def _hand_over_all(hows: Sequence[HandOver]) -> HotStatement:
    params = _ASKED_TO_HAND_OVER.parameters([dumped(of_hand_over(how)) for how in hows])
    return _with_the_rest(_HAND_OVER, _HANDED_OVER, params, hows)


def _with_the_rest(
    begins: str, ends: str, params: dict[str, Any], hows: Sequence[End | HandOver]
) -> HotStatement:
    """With the events, messages and token counts of all of them."""
    params |= event_columns_of_many({n: how.whose.events for n, how in enumerate(hows, 1)})
    inserts = add_of_many(params, {n: how.whose.records for n, how in enumerate(hows, 1)})
    return with_inserts(begins, records_in_order(inserts), ends, many=True), params


def _size_of(how: End | HandOver) -> int:
    return sum(len(event.data) for event in how.whose.events) + size_of(how.whose.records)


ENDS: Kind[End] = Kind(
    "end",
    statement=_end_all,
    bytes_of=lambda how: _size_of(how) + len(how.facts.values or b""),
)
"""Returns a row `n` for each run that was ended; no other run waits on its thread."""

HAND_OVERS: Kind[HandOver] = Kind("hand_over", statement=_hand_over_all, bytes_of=_size_of)
"""Returns a row `n` for each run that was handed over, and whether it is `due` at once."""


async def end(group: GroupCommit, how: End, last: Gathering | None = None) -> Settled | None:
    """As `settlement.end`; None if the run has to be settled alone.

    `last` holds the checkpoint `stored_with` and is stored in the same transaction: both happen or neither does.
    """
    if await group.send(ENDS, how, first=_first(last)) is None:
        return None
    count_end(how.status)
    return Settled(True, next_ready=False, status=how.status.value)


async def hand_over(group: GroupCommit, how: HandOver, last: Gathering | None = None) -> Settled | None:
    """As `settlement.hand_over`; None if the run has to be settled alone. `last` is as in `end`."""
    row = await group.send(HAND_OVERS, how, first=_first(last))
    if row is None:
        return None
    count_hand_over(how.stopped)
    return Settled(True, next_ready=row["due"], status=RunStatus.PENDING.value)


def _first(last: Gathering | None) -> tuple[Kind[Gathering], Gathering] | None:
    return (STORE, last) if last is not None else None
