"""How a run ends or is handed over: one compare-and-set on owner, status and fence.

The statements are pipelined behind the lock on the thread's row, and each later one takes effect only if the first changed
the run in the same transaction. A stale owner, or a retry after a lost response, therefore changes nothing, and the thread
never disagrees with its run.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.types.json import Jsonb

from slackwater.kit import json_format
from slackwater.postgres.pool import Database, Statement
from slackwater.runtime.events.journal import Event
from slackwater.runtime.fenced.records import MESSAGES, NO_ROWS, USAGE, Rows
from slackwater.runtime.fenced.statements import INSERT_EVENTS, Insert, event_columns
from slackwater.runtime.queue import cancel, order
from slackwater.runtime.queue.claims import MAX_STALLS, PROGRESS, WORKED
from slackwater.runtime.queue.many import Of, of_one
from slackwater.runtime.queue.states import ACTIVE, STATELESS_LINGER_SECONDS, RunStatus, Stopped
from slackwater.telemetry import metrics
from slackwater.telemetry.metrics import Metric

TIMED_OUT = {"error": "TimeoutError", "message": ""}
"""The error that a thread shows after its run timed out. As on the official server, the stream does not mention it."""


@dataclass(frozen=True, slots=True)
class ThreadFacts:
    """What a thread shows after a run, read from its last checkpoint."""

    status: str
    """`busy` if the state could not be read: `Runtime.refresh_thread` or the next sweep reads it again."""
    values: bytes | None
    """JSON; None leaves the thread's values as they are."""
    interrupts: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, str] | None = None
    own_failure: Mapping[str, str] | None = None
    """What the graph says itself has gone wrong in a run that has finished: the run keeps it beside its success."""


@dataclass(frozen=True, slots=True)
class Settled:
    """The outcome of a settlement. If `owned` is False, nothing was written: another process owns the run, or the database
    failed over (`epochs.look`)."""

    owned: bool
    next_ready: bool = False
    """The thread's next run can be claimed."""
    status: str | None = None
    error: bytes | None = None
    """The `error` event with which a guard ended the run, as logged."""


def owned(of: Of) -> str:
    """The condition that run `r` still belongs to the attempt."""
    return f"""r.run_id = {of("run_id")} and r.fence = {of("fence")} and r.worker is not distinct from {of("worker")}
    and r.status = 'running'"""


THIS_SERVER = "r.epoch = (select slackwater.epoch())"

_OURS = f"""{owned(of_one)}
    and (%(expired)s or %(forgotten)s or {THIS_SERVER})
    and (%(expired)s is false or r.lease_until < clock_timestamp())"""

# A take-over does not sign: an owner that lost its lease must not mistake somebody else's settlement for its own.
_SIGN = """settled_by = case when %(expired)s then r.settled_by else %(worker)s end,
    settled_fence = case when %(expired)s then r.settled_fence else %(fence)s end"""

_SIGNED = """e.run_id = %(run_id)s and e.settled_by = %(worker)s and e.settled_fence = %(fence)s and not %(expired)s"""
"""The owner has settled the run already, and only the response was lost."""


def ended(of: Of) -> str:
    """The columns to set when run `r` ends."""
    return f"""status = {of("status")}, ready = false, holds_thread = false, worker = null,
    lease_until = null, ended_at = clock_timestamp(), updated_at = clock_timestamp(), reason = {of("reason")},
    error = {of("error")}, last_checkpoint_id = coalesce({of("checkpoint_id")}, last_checkpoint_id),
    -- An attempt may have said nothing: then it is an earlier one's.
    last_event = coalesce({of("last_event")}, (select e.fence || '-' || e.seq from slackwater.run_events e
      where e.run_id = {of("run_id")} order by e.fence desc, e.seq desc limit 1)),
    delete_at = case when on_completion = 'delete' then clock_timestamp() + make_interval(secs => {STATELESS_LINGER_SECONDS}) end"""


_ENDED_NOW = f"""exists (select 1 from slackwater.runs e where e.run_id = %(run_id)s
 and e.status = %(status)s and e.{order.DONE_NOW})"""


_END = f"""
with owned as (
  update slackwater.runs r set {ended(of_one)},
    {_SIGN}
  where {_OURS}
  returning 1
), events as ({INSERT_EVENTS})"""
_ENDED = f"""
select exists (select 1 from owned) as now, case when %(rollback)s and not %(expired)s
  then not exists (select 1 from slackwater.runs e where e.run_id = %(run_id)s)
  else exists (select 1 from slackwater.runs e where {_SIGNED} and e.status = %(status)s) end as before"""

_FORGET_BASE = f"""
delete from slackwater.base_writes where run_id = %(run_id)s and {_ENDED_NOW}"""


def shown(of: Of) -> str:
    """The columns to set on thread `t` when its run ends, except status and error."""
    return f""""values" = coalesce({of("values")}::jsonb, t."values"), interrupts = {of("interrupts")},
  updated_at = clock_timestamp(), state_updated_at = clock_timestamp()"""


_THREAD = f"""
update slackwater.threads t set {shown(of_one)},
  status = case when {order.THREAD_BUSY} then 'busy' else %(thread_status)s end,
  -- After a rollback the thread is as it was: also with the error of the run before.
  error = case when %(rollback)s then t.error else %(thread_error)s end
where t.thread_id = %(thread_id)s and {_ENDED_NOW}"""


def given_back(of: Of) -> str:
    """The columns to set when run `r` returns to the queue; needs a CTE `now` with its `progress`."""
    return f"""status = 'pending', worker = null, lease_until = null, updated_at = clock_timestamp(),
    handovers = handovers + 1, stopped = {of("stopped")}, reason = {of("reason")},
    worked_seconds = {WORKED},
    -- Its reader has lost its connection with us, and has some time to come back to whoever goes on.
    reader_left_at = case when kwargs ->> 'on_disconnect' = 'cancel'
      then coalesce(reader_left_at, clock_timestamp()) end,
    last_checkpoint_id = coalesce({of("checkpoint_id")}, last_checkpoint_id), progress = now.progress,
    -- A drain at a boundary says nothing about the run; only what was cut or lost can be the run's own fault.
    -- Nor what was lost with a process whose event loop another run has blocked.
    stalls = case when r.progress is distinct from now.progress then 0 else r.stalls end
      + ({of("stopped")} <> 'drained' and coalesce(r.stalled_by, r.run_id) = r.run_id)::int, stalled_by = null"""


_HAND_OVER = f"""
with now as (
  select r.run_id, {PROGRESS} as progress from slackwater.runs r where r.run_id = %(run_id)s
), owned as (
  update slackwater.runs r set {given_back(of_one)},
    {_SIGN}
  from now where r.run_id = now.run_id and {_OURS}
  returning r.run_id
), events as ({INSERT_EVENTS})"""
_HANDED_OVER = f"""
select true as now, null::jsonb as error from owned
union all
-- The error is the guard's: whatever ends the run later raises its fence before, or is no error.
select false, case when e.fence = %(fence)s and e.status = 'error' then e.error end
from slackwater.runs e where {_SIGNED}"""

_GUARD = f"""
with stuck as (
  update slackwater.runs r set status = 'error', ready = false, holds_thread = false, ended_at = clock_timestamp(),
    delete_at = case when on_completion = 'delete' then clock_timestamp() + make_interval(secs => {STATELESS_LINGER_SECONDS}) end,
    error = jsonb_build_object('error', 'NoProgress', 'message', case when r.stalls >= {MAX_STALLS}
      then format('Stopped %%s times in a row at the same checkpoint, in %%s, which last had %%s s. '
        'Make the node shorter than the grace period, or raise SLACKWATER_GRACE_SECONDS.',
        r.stalls, %(nodes)s::text, round(extract(epoch from clock_timestamp() - r.claimed_at)::numeric, 1))
      else format('Handed over %%s times, which is more than SLACKWATER_MAX_HANDOVERS allows.', r.handovers) end),
    last_event = r.fence || '-' || coalesce((select max(e.seq) from slackwater.run_events e
      where e.run_id = r.run_id and e.fence = r.fence), 0) + 1
  where r.run_id = %(run_id)s and r.status = 'pending' and r.{order.DONE_NOW}
    and (r.stalls >= {MAX_STALLS} or r.handovers > %(max_handovers)s)
  returning r.run_id, r.thread_id, r.fence, r.error, r.last_event
), logged as (
  insert into slackwater.run_events (run_id, fence, seq, thread_id, event, data)
  select run_id, fence, split_part(last_event, '-', 2)::int, thread_id, 'error', error::text from stuck
), forgotten as (
  delete from slackwater.base_writes b using stuck s where b.run_id = s.run_id
), shown as (
  update slackwater.threads t set error = s.error, updated_at = clock_timestamp(),
    status = case when exists (select 1 from slackwater.runs a where a.thread_id = s.thread_id
      and a.run_id <> s.run_id and a.status in {ACTIVE}) then 'busy' else 'error' end
  from stuck s where t.thread_id = s.thread_id
)
select error, last_event from stuck"""


class Whose(NamedTuple):
    """An attempt, and what it has not stored yet."""

    run_id: UUID
    thread_id: UUID
    owner: str
    fence: int
    worker: str
    events: Sequence[Event] = ()
    checkpoint_id: str | None = None
    stored_with: str | None = None
    """`checkpoint_id` if the transaction that settles the run also stores that checkpoint."""
    records: Rows = NO_ROWS
    """Messages and token counts."""


class End(NamedTuple):
    """How an attempt ends its run."""

    whose: Whose
    status: RunStatus
    facts: ThreadFacts
    last_event: str | None = None
    reason: str | None = None


class HandOver(NamedTuple):
    """How an attempt hands its run over."""

    whose: Whose
    stopped: Stopped
    reason: str
    max_handovers: int
    nodes: str


def of_attempt(whose: Whose) -> dict[str, Any]:
    """The parameters that every settling statement needs."""
    return {
        "run_id": whose.run_id,
        "thread_id": whose.thread_id,
        "owner": whose.owner,
        "fence": whose.fence,
        "worker": whose.worker,
        "checkpoint_id": whose.checkpoint_id,
        "stored_with": whose.stored_with,
    }


def of_end(how: End) -> dict[str, Any]:
    """The parameters for ending the run, without its events."""
    facts, status = how.facts, how.status
    error = facts.error if status is not RunStatus.SUCCESS else facts.own_failure
    return {
        **of_attempt(how.whose),
        "status": status.value,
        "reason": how.reason,
        "error": Jsonb(error) if error and status is not RunStatus.INTERRUPTED else None,
        "last_event": how.last_event,
        "thread_status": facts.status,
        "values": facts.values.decode() if facts.values is not None else None,
        "interrupts": Jsonb(facts.interrupts),
        "thread_error": Jsonb(facts.error) if facts.error else None,
    }


def of_hand_over(how: HandOver) -> dict[str, Any]:
    """The parameters for handing the run over, without its events."""
    return {
        **of_attempt(how.whose),
        "stopped": how.stopped.value,
        "reason": how.reason,
        "max_handovers": how.max_handovers,
        "nodes": how.nodes or "its first node",
    }


def records_in_order(inserts: Collection[Insert]) -> tuple[Insert, ...]:
    """The tables that settlements add to, as far as there is something for them."""
    return tuple(insert for insert in (MESSAGES, USAGE) if insert in inserts)


@lru_cache
def with_inserts(begins: str, inserts: tuple[Insert, ...], ends: str, *, many: bool) -> str:
    """A settling statement that also has these CTEs: of a single run, or of many."""
    parts = (insert.of_many() if many else insert.of_one() for insert in inserts)
    return begins + "".join(f", {part}" for part in parts) + ends


def _with_records(begins: str, ends: str, params: Mapping[str, Any], records: Rows) -> Statement:
    params = dict(params)
    for insert, rows in records.items():
        insert.add(params, rows)
    return with_inserts(begins, records_in_order(records), ends, many=False), params


async def end(database: Database, how: End, *, rollback: bool = False, expired: bool = False) -> Settled:
    """Write the terminal state, the thread's state and the run's last events; make the thread's next run ready."""
    params = {
        **of_end(how),
        "rollback": rollback,
        "expired": expired,
        "forgotten": False,
        **event_columns(how.whose.events),
    }
    undo: Mapping[str, Statement] = cancel.rollback(params) if rollback else {"base": (_FORGET_BASE, params)}
    answers = await database.answers(
        locked=(order.LOCK, params),
        ended=_with_records(_END, _ENDED, params, how.whose.records),
        shown=(_THREAD, params),  # before a rollback deletes the run's row
        **undo,
        promoted=(order.PROMOTE, params),
    )
    (changed,) = answers["ended"]
    if not (changed["now"] or changed["before"]):
        return Settled(owned=False)
    count_end(how.status)
    ready = order.is_due(answers["promoted"]) if changed["now"] else await _ready(database, params)
    return Settled(True, ready, how.status.value)


async def _ready(database: Database, params: Mapping[str, Any]) -> bool:
    """The answer of PROMOTE after a retry, when an earlier transaction has made the thread's next run ready."""
    row = await database.fetch_one(order.READY, params)
    return bool(row and row["ready"])


def count_end(status: RunStatus) -> None:
    """Count the end of a run: once, even if the response was lost and the statement sent again."""
    metrics.count(Metric.RUNS_FINISHED)
    if status in (RunStatus.ERROR, RunStatus.TIMEOUT):
        metrics.count(Metric.RUNS_FAILED)


def count_hand_over(stopped: Stopped) -> None:
    """Count a hand-over: once, as with `count_end`."""
    metrics.count(Metric.RUNS_TAKEN_OVER if stopped is Stopped.LOST else Metric.RUNS_HANDED_OVER)
    if stopped is Stopped.DRAINED:
        metrics.count(Metric.RUNS_DRAINED)


async def hand_over(
    database: Database, how: HandOver, *, expired: bool = False, forgotten: bool = False
) -> Settled:
    """Return the run, which keeps its thread, to the queue; or end it if a guard says so.

    `expired`: a take-over, which requires that the lease has expired. `forgotten`: ignore the epoch, since the owner knows
    that a failover lost some of its writes.
    """
    params = {
        **of_hand_over(how),
        "expired": expired,
        "forgotten": forgotten,
        **event_columns(how.whose.events),
    }
    answers = await database.answers(
        locked=(order.LOCK, params),
        handed_over=_with_records(_HAND_OVER, _HANDED_OVER, params, how.whose.records),
        stuck=(_GUARD, params),
        promoted=(order.PROMOTE, params),
    )
    if not answers["handed_over"]:
        return Settled(owned=False)
    changed, stuck = answers["handed_over"][0], answers["stuck"]
    now, error = changed["now"], stuck[0]["error"] if stuck else changed["error"]
    ready = order.is_due(answers["promoted"]) if now else await _ready(database, params)
    if error:
        count_end(RunStatus.ERROR)
        return Settled(True, ready, RunStatus.ERROR.value, json_format.dumps(error))
    count_hand_over(how.stopped)
    return Settled(True, ready, RunStatus.PENDING.value)
