"""Ownership of runs: claim, renew, take over. All of it is compare-and-set in SQL, on the database's clock.

Lock order, everywhere: the thread's row first, then the rows of its runs. A checkpoint put locks only its run.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

from slackwater.postgres import shares
from slackwater.postgres.arrays import TextArray, UuidArray
from slackwater.postgres.pool import Database, Row
from slackwater.postgres.shares import Shares
from slackwater.runtime.queue.lease import Lease
from slackwater.runtime.queue.limits import has_own, limit_of
from slackwater.runtime.queue.states import Stopped

RUN_COLUMNS: LiteralString = f"""r.run_id, r.thread_id, r.owner, r.assistant_id, r.graph_id, r.kwargs, r.metadata, r.on_completion,
 r.fence, r.attempt, r.handovers, r.stopped, r.input_applied, r.input_step, r.base_checkpoint_id, r.claimed_at,
 r.cancel_action, r.cancel_reason, r.worked_seconds, r.created_at,
 {has_own("r.owner")} as limited"""


@dataclass(frozen=True, slots=True)
class ClaimedRun:
    """A run that this process owns, and everything that an attempt needs to know."""

    run_id: UUID
    thread_id: UUID
    owner: str
    assistant_id: UUID
    graph_id: str
    kwargs: Mapping[str, Any]
    metadata: Mapping[str, Any]
    on_completion: str | None
    fence: int
    attempt: int
    handovers: int
    stopped: Stopped | None
    """How the previous attempt stopped; None on the first."""
    input_applied: bool
    input_step: int | None
    base_checkpoint_id: str | None
    """The thread's head when the run first started; None when it had no checkpoint."""
    cancel_action: str | None
    cancel_reason: str | None
    worked_seconds: float
    """How long earlier attempts worked on it."""
    lease: Lease
    limited: bool = False
    """Whether its owner has limits of their own: another of their runs may begin when it ends."""

    @classmethod
    def of(
        cls, row: Mapping[str, Any], *, worker: str, lease_from: float, lease_seconds: float
    ) -> ClaimedRun:
        """From a row with RUN_COLUMNS. The lease counts from `lease_from`, the monotonic time before the claim was sent."""
        return cls(
            **{name: row[name] for name in cls.__slots__ if name not in ("lease", "stopped")},
            stopped=Stopped(row["stopped"]) if row["stopped"] else None,
            lease=Lease(row["run_id"], row["thread_id"], row["fence"], worker, lease_from + lease_seconds),
        )

    @property
    def fresh_thread(self) -> bool:
        """The thread had no checkpoint when the run started, and this is its first attempt."""
        return self.base_checkpoint_id is None and self.stopped is None

    @property
    def repeats(self) -> bool:
        """Whether a superstep runs again, which a `metadata` event announces to readers."""
        return self.stopped in (Stopped.CUT, Stopped.LOST)


NEXT_FENCE = "slackwater.next_fence(t.fence, t.epoch)"
"""The fence that a claim on thread `t` takes. Together with it, set `epoch = slackwater.epoch()` on the row."""

FIRST_FENCE = "greatest(slackwater.epoch(), 0) * 10000"
"""The fence of a new thread: the column's default."""

CLAIM_SET = """status = 'running', ready = false, holds_thread = true, worker = %(worker)s,
 lease_until = clock_timestamp() + make_interval(secs => %(lease)s), claimed_at = clock_timestamp(),
 started_at = coalesce(started_at, clock_timestamp()), updated_at = clock_timestamp()"""

MAX_STALLS = 3
"""After this many attempts in a row that were cut or lost at the same checkpoint, the run ends."""

_SUSPECT = f"stalls >= {MAX_STALLS - 1}"
"""The run has one attempt left. Runs that die together with one that kills its process look just like it, so a process
takes such runs one at a time: the last attempt of each then shows which one it was."""

_DUE: LiteralString = f"""q.ready and q.available_at <= statement_timestamp() and q.graph_id = any(%(graphs)s)
    and q.thread_id <> all(%(occupied)s::uuid[])
    and (not q.{_SUSPECT} or q.run_id in (select run_id from suspect))"""
# Not `clock_timestamp()`, which is volatile and prevents an index scan.

_SUSPECTS: LiteralString = f"""suspect as (
  select run_id from slackwater.runs
  where ready and {_SUSPECT} and available_at <= statement_timestamp() and graph_id = any(%(graphs)s)
    and thread_id <> all(%(occupied)s::uuid[]) and not exists (
    select 1 from slackwater.runs o where o.worker = %(worker)s and o.status = 'running' and o.{_SUSPECT}
      and o.claimed_at > clock_timestamp() - make_interval(secs => %(lease)s))
  order by available_at, seq limit 1
)"""

_TAKE: LiteralString = f"""locked as (
  select o.run_id, o.thread_id from ordered o cross join lateral (
    select 1 from slackwater.threads t where t.thread_id = o.thread_id for update skip locked) t limit %(limit)s
), mine as (
  select l.run_id, l.thread_id from locked l cross join lateral (
    select 1 from slackwater.runs r
    where r.run_id = l.run_id and r.ready and r.status = 'pending' for update) r
), fenced as (
  update slackwater.threads t set fence = {NEXT_FENCE}, epoch = slackwater.epoch(), status = 'busy',
    metadata = t.metadata || jsonb_build_object('graph_id', r.graph_id, 'assistant_id', r.assistant_id),
    config = case when r.attempt = 0 then slackwater.thread_config(r.kwargs) else t.config end
  from slackwater.runs r where r.run_id = any(array(select m.run_id from mine m)) and t.thread_id = r.thread_id
    and t.thread_id = any(array(select m.thread_id from mine m))
  returning r.run_id, t.fence, t.epoch
), claimed as (
update slackwater.runs r set {CLAIM_SET}, fence = f.fence, epoch = f.epoch,
  attempt = r.attempt + (r.stopped is distinct from 'drained')::int,
  base_checkpoint_id = case when r.attempt = 0
    then (select max(k.checkpoint_id) from checkpoints k where k.thread_id = r.thread_id::text and k.checkpoint_ns = '')
    else r.base_checkpoint_id end
from fenced f where r.run_id = any(array(select m.run_id from mine m)) and f.run_id = r.run_id
returning {RUN_COLUMNS}
)"""
# The thread's row is locked first. Changes between the snapshot and that lock (another process may have claimed the run,
# and even ended it) are seen by `mine`: Postgres evaluates its WHERE on the newest version of the row that it locks.
# Rows are looked up one by one, or by an array, so that no row estimate makes the planner scan a table.

_ALONE: LiteralString = f"""({shares.alone(table="slackwater.runs", waits="ready")}
  and not {has_own("(select f.owner from slackwater.runs f where ready order by f.owner limit 1)")})"""
"""All that wait are one owner's, who has no limits of their own."""

_CLAIM: LiteralString = f"""
with recursive {_SUSPECTS}, {
    shares.candidates(
        table="slackwater.runs",
        key="run_id, thread_id",
        age="available_at, seq",
        first="'-infinity'::timestamptz, 0::bigint",
        waits="ready",
        due=_DUE,
    )
}, room as (
  -- In the order in which everybody takes these locks.
  select owner, slackwater.room_of(owner, most) as room from (
    select c.owner, {limit_of("running", "c.owner", "%(max_running)s")} as most
    from (select distinct owner from candidate) c order by c.owner offset 0) c
  where most is not null
), ordered as (
  select c.run_id, c.thread_id from candidate c left join room m on m.owner = c.owner
  where m.owner is null or c.place <= m.room
  order by c.share, c.turn nulls first, c.available_at, c.seq
), {_TAKE}
select c.*, l.looked_until, l.alone from (select {shares.LOOKED_UNTIL} as looked_until, {
    _ALONE
} as alone) l left join claimed c on true"""

_CLAIM_ALONE: LiteralString = f"""
with {_SUSPECTS}, alone as materialized (
  select {_ALONE} as alone
), ordered as (
  select q.run_id, q.thread_id from slackwater.runs q where (select alone from alone) and {_DUE}
  order by q.available_at, q.seq limit %(limit)s * 2 + 4
), {_TAKE}
select c.*, a.alone from alone a left join claimed c on true"""
"""_CLAIM for the case that at most one owner's runs wait: takes half the time, but claims nothing if others wait, too."""


_ANY_READY = """
select (select true from slackwater.runs
  where ready and available_at <= statement_timestamp() and graph_id = any(%(graphs)s)
  order by available_at, seq limit 1) is not null as found"""
# Ordered, although any row would do: otherwise the planner may scan the table in the hope of an early match.


async def any_ready(database: Database, *, graphs: Collection[str]) -> bool:
    """Whether any run can be claimed."""
    row = await database.fetch_one(_ANY_READY, {"graphs": list(graphs)})
    return row is not None and bool(row["found"])


async def claim(
    database: Database,
    *,
    worker: str,
    graphs: Collection[str],
    limit: int,
    lease_seconds: float,
    occupied: Collection[UUID] = (),
    share: Shares | None = None,
    in_hand: Iterable[str] = (),
    max_running: int | None = None,
) -> list[ClaimedRun]:
    """Claim up to `limit` ready runs of the loaded `graphs`, shared fairly among owners; per owner the longest due first.

    `in_hand` has the owner of each run that this process works on, and `share` remembers whose turn it was. No owner gets
    more than `max_running` runs in all processes together; None means no limit. Threads in `occupied` are skipped: an
    attempt of this process that has lost its lease still unwinds there.
    """
    share = share or Shares()
    params = {
        "worker": worker,
        "graphs": TextArray(list(graphs)),
        "limit": limit,
        "lease": lease_seconds,
        "occupied": UuidArray(list(occupied)),
    }
    sent, rows = time.monotonic(), list[Row]()
    if share.alone and max_running is None:
        (rows,) = await database.write((_CLAIM_ALONE, params))
        share.alone = rows[0]["alone"]
    if not rows or not share.alone:
        sent = time.monotonic()
        (rows,) = await database.write(
            (_CLAIM, {**params, "max_running": max_running, **share.parameters(in_hand)})
        )
        share.looked(rows[0]["looked_until"])
        share.alone = rows[0]["alone"]
    return [
        ClaimedRun.of(row, worker=worker, lease_from=sent, lease_seconds=lease_seconds)
        for row in rows
        if row["run_id"] is not None
    ]


RENEW = """
with mine as (
  select r.run_id, r.fence from slackwater.runs r
  join unnest(%(run_ids)s::uuid[], %(fences)s::bigint[]) as m(run_id, fence) using (run_id, fence)
  where r.worker = %(worker)s and r.status = 'running'
), free as (
  select r.run_id from slackwater.runs r join mine using (run_id, fence)
  where r.worker = %(worker)s and r.status = 'running' for no key update of r skip locked
), kept as (
  update slackwater.runs r set lease_until = clock_timestamp() + make_interval(secs => %(lease)s),
    stalled_by = %(stalled_by)s
  from free where r.run_id = free.run_id returning r.run_id, r.cancel_action, r.cancel_reason
)
select run_id, fence, kept.run_id is not null as kept, cancel_action, cancel_reason
from mine left join kept using (run_id)"""
"""Renews the leases of a process without waiting for locked rows. A lease that is missing from the result is lost; one that
is there but not `kept` has a locked row: by a writer of this process, or by a take-over."""


def renewal(
    leases: Sequence[Lease], *, worker: str, lease_seconds: float, stalled_by: UUID | None = None
) -> dict[str, Any]:
    """The parameters of `RENEW`. `stalled_by`: the run that blocks this process's event loop, if any."""
    return {
        "worker": worker,
        "lease": lease_seconds,
        "run_ids": [lease.run_id for lease in leases],
        "fences": [lease.fence for lease in leases],
        "stalled_by": stalled_by,
    }


_OURS = """
select run_id, fence from slackwater.runs where worker = %(worker)s and status = 'running' and kind = 'run'"""

_TAKE_UP = f"""
update slackwater.runs r set lease_until = clock_timestamp() + make_interval(secs => %(lease)s),
  epoch = slackwater.epoch() -- nothing was stored under it yet
from unnest(%(run_ids)s::uuid[], %(fences)s::bigint[]) as lost(run_id, fence)
where r.run_id = lost.run_id and r.fence = lost.fence and r.worker = %(worker)s and r.status = 'running'
returning {RUN_COLUMNS}"""


async def ours(database: Database, *, worker: str) -> list[tuple[UUID, int]]:
    """The runs that this process owns according to the database, and their fences."""
    return [(row["run_id"], row["fence"]) for row in await database.fetch(_OURS, {"worker": worker})]


async def take_up(
    database: Database, lost: Sequence[tuple[UUID, int]], *, worker: str, lease_seconds: float
) -> list[ClaimedRun]:
    """Renew those of the claims that still belong to this process; their runs."""
    sent = time.monotonic()
    rows = await database.fetch(
        _TAKE_UP,
        {
            "worker": worker,
            "lease": lease_seconds,
            "run_ids": [run_id for run_id, _ in lost],
            "fences": [fence for _, fence in lost],
        },
    )
    return [ClaimedRun.of(row, worker=worker, lease_from=sent, lease_seconds=lease_seconds) for row in rows]


_WISHES = """
select run_id, fence, cancel_action, cancel_reason from slackwater.runs
where worker = %(worker)s and status = 'running' and cancel_action is not null"""


async def wishes(database: Database, *, worker: str) -> list[dict[str, Any]]:
    """The wishes to cancel runs that this process owns."""
    return await database.fetch(_WISHES, {"worker": worker})


WORKED = """(r.worked_seconds + extract(epoch from
 greatest(least(clock_timestamp(), r.lease_until) - r.claimed_at, interval '0')))"""
"""How long the running run `r` has been worked on; a process that is gone counts until the end of its lease."""

PROGRESS = """(select k.checkpoint_id || ':' || (select count(*) from checkpoint_writes w
   where w.thread_id = k.thread_id and w.checkpoint_ns = k.checkpoint_ns and w.checkpoint_id = k.checkpoint_id)
 from (
   (select thread_id, checkpoint_ns, checkpoint_id from checkpoints
     where thread_id = r.thread_id::text and checkpoint_ns = '' order by checkpoint_id desc limit 1)
   union all
   (select thread_id, checkpoint_ns, checkpoint_id from checkpoints
     where thread_id = r.thread_id::text and checkpoint_ns <> '' order by checkpoint_id desc limit 1)
 ) k order by k.checkpoint_id desc limit 1)"""
"""How far run `r` has come: its thread's newest checkpoint in any namespace, and the number of its pending writes."""
