"""Cancellation is a durable wish; the first one wins.

The statement that records the wish also ends the run if nobody owns it (pending, handed over). A live run is ended by its
owner, which learns of the wish within a second, or by the sweep once the owner's lease has expired.

A rollback is part of the transaction that ends the run: it deletes the run's checkpoints and restores the writes on older
checkpoints. Only then is the thread free for the next claim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from slackwater.identity.audit.actor import NOBODY, Actor, AuditAction
from slackwater.identity.audit.queries import audited
from slackwater.postgres.pool import Database, Row, Statement
from slackwater.runtime.queue import erasure, order
from slackwater.runtime.queue.states import ACTIVE, STATELESS_LINGER_SECONDS


class CancelAction(StrEnum):
    """What happens to a cancelled run."""

    INTERRUPT = "interrupt"
    """It ends as `interrupted`; finished supersteps stay."""
    ROLLBACK = "rollback"
    """It is deleted, and its thread is restored to the state before."""


@dataclass(frozen=True, slots=True)
class CancelWish:
    """Why a live run is to stop, and how."""

    action: CancelAction
    reason: str

    @property
    def deletes(self) -> bool:
        """Whether the run is rolled back because it was deleted."""
        return self.action is CancelAction.ROLLBACK and self.reason == DELETED

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> CancelWish:
        return cls(CancelAction(row["cancel_action"]), row["cancel_reason"] or "cancelled")


CANCEL_REASON = "interrupt requested via POST /threads/{thread_id}/runs/{run_id}/cancel"

DELETED = "deleted by its owner"
"""The reason for rolling back a live run that was deleted; its readers learn that it is gone."""

READER_GONE = "client disconnected from the run stream (on_disconnect=cancel)"


def _wish(condition: str) -> str:
    """The statement that records the wish for the active runs `r` that meet the condition."""
    return f"""
with wished as (
update slackwater.runs r set cancel_action = coalesce(cancel_action, %(action)s),
  cancel_reason = coalesce(cancel_reason, %(by)s), cancel_at = coalesce(cancel_at, clock_timestamp()),
  updated_at = clock_timestamp()
where {condition} and r.owner = %(owner)s and r.kind = 'run' and r.status in {ACTIVE}
returning r.run_id, r.thread_id, r.owner, r.cancel_at >= statement_timestamp() as is_new, r.status, r.lease_until < clock_timestamp() as expired, r.cancel_action, r.cancel_reason
), {audited("wished", AuditAction.RUN_CANCELLED, "run_id", detail="%(by)s", where="x.is_new")}
select * from wished"""


def _end_ownerless(condition: str) -> str:
    """The statement that ends the runs `r` that nobody owns and that meet the condition."""
    return f"""
update slackwater.runs r set status = 'interrupted', ready = false, holds_thread = false, reason = cancel_reason,
  ended_at = clock_timestamp(), updated_at = clock_timestamp(),
  delete_at = case when on_completion = 'delete' then clock_timestamp() + make_interval(secs => {STATELESS_LINGER_SECONDS}) end,
  last_event = (select fence || '-' || seq from slackwater.run_events e where e.run_id = r.run_id
                order by fence desc, seq desc limit 1)
where {condition} and r.owner = %(owner)s and r.status = 'pending'
returning r.run_id, r.thread_id, r.cancel_action, r.cancel_reason"""


_WISH = _wish(
    "r.thread_id = %(thread_id)s and (%(run_ids)s::uuid[] is null or r.run_id = any(%(run_ids)s::uuid[]))"
)
_END_OWNERLESS = _end_ownerless("r.thread_id = %(thread_id)s and r.cancel_action is not null")

# Only interrupted runs: a rollback still needs its rows, and deletes them itself.
_FORGET_BASE = """forgotten as (
  delete from slackwater.base_writes b using ended e where b.run_id = e.run_id and e.cancel_action = 'interrupt')"""

_END_DISPLACED = f"with ended as ({_END_OWNERLESS}), {_FORGET_BASE} select run_id from ended"


def _end_and_show(end_ownerless: str) -> str:
    # The thread stays busy until its state is read again, by the canceller or, if that process dies, by the next sweep.
    return f"""
with ended as ({end_ownerless}), {_FORGET_BASE}, shown as (
  update slackwater.threads t set updated_at = clock_timestamp(), status = 'busy',
    error = case when e.reason is not null then jsonb_build_object('error', 'UserInterrupt', 'message', e.reason)
                 else t.error end
  from (select thread_id, max(cancel_reason) filter (where cancel_action = 'interrupt') as reason
        from ended group by thread_id) e
  where t.thread_id = e.thread_id and not exists (
    select 1 from slackwater.runs a where a.thread_id = t.thread_id and a.status in {ACTIVE}
      and a.run_id not in (select run_id from ended)))
select run_id from ended"""


_END_AND_SHOW = _end_and_show(_END_OWNERLESS)

_DOOMED = """(select d.run_id from slackwater.runs d where d.thread_id = %(thread_id)s and d.owner = %(owner)s
 and d.status = 'interrupted' and d.cancel_action = 'rollback')"""


def since(table: str, chosen: str) -> str:
    """CTEs `doomed`, the runs that `chosen` selects, and `since`, the rows of `table` for checkpoints made since they began.

    The ids of a run's own checkpoints, in any namespace, sort after the thread's head when it began. Older rows are not
    read, however many there are.
    """
    rows = f"""select s.ctid as place, s.checkpoint_ns, s.checkpoint_id, {
        "s.metadata ->> 'run_id'" if table == "checkpoints" else "null"
    } as maker
      from {
        table
    } s where s.thread_id = %(thread_id)s::uuid::text and s.checkpoint_id > d.base and s.checkpoint_ns"""
    return f"""doomed as materialized (
  select d.run_id, coalesce(d.base_checkpoint_id, '') as base from slackwater.runs d
  where d.run_id in (select run_id from {chosen} as x) and d.fence > 0
), since as materialized (
  select d.run_id, k.* from doomed d cross join lateral (({rows} = '') union all ({rows} <> '')) k
)"""


ORPHANED = """(select true from checkpoints c where c.thread_id = %(thread_id)s::uuid::text
  and c.checkpoint_ns = since.checkpoint_ns and c.checkpoint_id = since.checkpoint_id) is null"""
# Not `not exists`, for which the planner reads all checkpoints of the thread.

ROLLBACK = (
    # With the blobs that no other checkpoint refers to; older ones are inherited from parent to child.
    f"""with {since("checkpoints", _DOOMED)}, gone as (
             delete from checkpoints where ctid = any(array(
               select place from since where maker = run_id::text))
             returning checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint -> 'channel_versions' as versions
           ), kept as (
             select p.checkpoint_ns, p.checkpoint -> 'channel_versions' as versions from checkpoints p
             join (select checkpoint_ns, parent_checkpoint_id as checkpoint_id from gone
                   except select checkpoint_ns, checkpoint_id from gone) g using (checkpoint_ns, checkpoint_id)
             where p.thread_id = %(thread_id)s::uuid::text
           )
           delete from checkpoint_blobs b using (
             select checkpoint_ns, v.key, v.value from gone, jsonb_each_text(versions) v
             except select checkpoint_ns, v.key, v.value from kept, jsonb_each_text(versions) v) o
           where b.thread_id = %(thread_id)s::uuid::text and b.checkpoint_ns = o.checkpoint_ns and b.channel = o.key
             and b.version = o.value""",
    f"""with {since("checkpoint_writes", _DOOMED)}
           delete from checkpoint_writes where ctid = any(array(
             select place from since where {ORPHANED}
             union all
             select w.ctid from doomed d join slackwater.base_writes b using (run_id) join checkpoint_writes w
               on w.thread_id = b.thread_id and w.checkpoint_ns = b.checkpoint_ns and w.checkpoint_id = b.checkpoint_id))""",
    f"""insert into checkpoint_writes
             (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
           select b.thread_id, b.checkpoint_ns, b.checkpoint_id, w ->> 0, w ->> 1, (w ->> 2)::int, w ->> 3, w ->> 4,
             decode(w ->> 5, 'base64')
           from slackwater.base_writes b, jsonb_array_elements(b.writes) w
           where b.run_id in (select run_id from {_DOOMED} as x) on conflict do nothing""",
    order.show_graph(_DOOMED),
    # Their rows are locked, so no write for them is still in flight.
    erasure.runs_and_theirs(f"r.run_id in (select run_id from {_DOOMED} as x)"),
)
"""Undoes every run of the thread that was cancelled with a rollback and ends in this transaction."""


def rollback(params: Mapping[str, Any]) -> dict[str, Statement]:
    """The statements of ROLLBACK; their results are not needed."""
    return {f"rollback_{n}": (statement, params) for n, statement in enumerate(ROLLBACK, 1)}


def displace(params: Mapping[str, Any]) -> dict[str, Statement]:
    """The statements with which a new run displaces the others of its thread; `wished` returns them."""
    params = {**params, **NOBODY.parameters, "run_ids": None}
    return {"wished": (_WISH, params), "displaced": (_END_DISPLACED, params), **rollback(params)}


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The result of a cancellation: runs that have ended, and live runs, which their owners have to end."""

    ended: tuple[UUID, ...]
    live: dict[UUID, CancelWish]
    orphans: tuple[UUID, ...] = ()
    """The live runs whose lease has expired."""

    @property
    def found(self) -> bool:
        return bool(self.ended or self.live)


# Locked rows are skipped, so that no transaction of many threads waits for another.
_WISH_MANY = _wish(
    f"""r.thread_id = any({order.LOCKED}) and r.run_id = any(array(select f.run_id from slackwater.runs f
    where f.run_id = any(%(run_ids)s::uuid[]) and f.status in {ACTIVE} for no key update skip locked))""",
)

# A run that has started has something to roll back, which is done thread by thread.
_END_AND_SHOW_MANY = _end_and_show(
    _end_ownerless(
        f"r.thread_id = any({order.LOCKED}) and r.{order.DONE_NOW}"
        " and (r.cancel_action = 'interrupt' or r.cancel_action = 'rollback' and r.fence = 0)"
    )
)

_DELETE_UNTOUCHED = erasure.runs_and_theirs(
    f"""r.thread_id = any({order.LOCKED}) and r.owner = %(owner)s
  and r.status = 'interrupted' and r.cancel_action = 'rollback' and r.fence = 0"""
)

# A thread on which nothing has run has no state to read.
_SHOW_EMPTY = f"""
update slackwater.threads t set status = case when t.error ->> 'error' <> 'UserInterrupt' then 'error' else 'idle' end,
  "values" = null, interrupts = '{{}}', updated_at = clock_timestamp(), state_updated_at = clock_timestamp()
where t.thread_id = any({order.LOCKED}) and t.owner = %(owner)s and t.status = 'busy'
  and (select true from checkpoints k where k.thread_id = t.thread_id::text and k.checkpoint_ns = '' limit 1) is null
  and (select true from slackwater.runs a where a.thread_id = t.thread_id and a.status in {ACTIVE} limit 1) is null
returning t.thread_id"""


@dataclass(frozen=True, slots=True)
class CancelledMany:
    """The result of cancelling runs of several threads."""

    runs: Cancelled
    unread: tuple[UUID, ...]
    """The threads whose state has to be read again."""
    left: dict[UUID, list[UUID]]
    """The runs that need `cancel`, by thread: they need a rollback, or their row was locked."""
    next_ready: bool


async def cancel_many(
    database: Database,
    *,
    owner: str,
    run_ids: Mapping[UUID, list[UUID]],
    action: CancelAction,
    reason: str,
    actor: Actor = NOBODY,
) -> CancelledMany:
    """`cancel` for runs of several threads at once; those in `left` still need `cancel`."""
    params: dict[str, Any] = {
        "owner": owner,
        "threads": list(run_ids),
        "run_ids": [run_id for of_thread in run_ids.values() for run_id in of_thread],
        "action": action.value,
        "by": reason,
        **actor.parameters,
    }
    answers = await database.answers(
        locked=(order.LOCK_FREE, params),
        wished=(_WISH_MANY, params),
        ended=(_END_AND_SHOW_MANY, params),
        deleted=(_DELETE_UNTOUCHED, params),
        shown=(_SHOW_EMPTY, params),
        promoted=(order.PROMOTE_LOCKED, params),
        notified=(order.NOTIFY, {"hint": order.HINT_CANCEL}),
    )
    wished, ended = answers["wished"], answers["ended"]
    gone, empty = {row["run_id"] for row in ended}, {row["thread_id"] for row in answers["shown"]}
    reached = gone | {row["run_id"] for row in wished if row["status"] == "running"}
    left = {
        thread_id: rest
        for thread_id, of_thread in run_ids.items()
        if (rest := [run_id for run_id in of_thread if run_id not in reached])
    }
    unread = dict.fromkeys(row["thread_id"] for row in wished if row["run_id"] in gone)
    return CancelledMany(
        _found(wished, ended),
        tuple(thread_id for thread_id in unread if thread_id not in empty),
        left,
        order.is_due(answers["promoted"]),
    )


def _found(wished: Sequence[Row], ended: Sequence[Row]) -> Cancelled:
    live = {row["run_id"]: CancelWish.of(row) for row in wished if row["status"] == "running"}
    orphans = tuple(row["run_id"] for row in wished if row["status"] == "running" and row["expired"])
    return Cancelled(tuple(row["run_id"] for row in ended), live, orphans)


async def cancel(
    database: Database,
    *,
    owner: str,
    thread_id: UUID,
    run_ids: list[UUID] | None,
    action: CancelAction,
    reason: str = CANCEL_REASON,
    actor: Actor = NOBODY,
) -> Cancelled:
    """Record the wish for the active runs among `run_ids` (None: all of the thread), and end those without an owner."""
    params: dict[str, Any] = {
        "owner": owner,
        "thread_id": thread_id,
        "run_ids": run_ids,
        "action": action.value,
        "by": reason,
        **actor.parameters,
    }
    answers = await database.answers(
        locked=(order.LOCK, params),
        wished=(_WISH, params),
        ended=(_END_AND_SHOW, params),
        **rollback(params),
        promoted=(order.PROMOTE, params),
        notified=(order.NOTIFY, {"hint": order.HINT_CANCEL}),
    )
    return _found(answers["wished"], answers["ended"])
