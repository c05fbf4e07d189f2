"""What nobody else looks after: runs of dead processes, runs to delete, old events, readers that did not return."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import TYPE_CHECKING, Any
from uuid import UUID

from app.postgres.trouble import DATABASE_TROUBLE
from app.runtime import engine, pruning, queue, settlement
from app.runtime.cancel import READER_GONE, CancelAction
from app.runtime.claims import MAX_STALLS, WORKED
from app.runtime.settlement import ThreadFacts
from app.runtime.states import RunStatus, Stopped
from app.telemetry import metrics
from app.telemetry.metrics import Metric

if TYPE_CHECKING:
    from app.runtime.runtime import Runtime

log = logging.getLogger(__name__)

TRIM_RUNS = 200
TRIM_ROUNDS = 50

READER_SECONDS = 60
"""How long the reader of an `on_disconnect=cancel` run may be away."""

_EXPIRED = f"""
select run_id, thread_id, owner, kind, fence, worker, cancel_action, cancel_reason, stalls, attempt,
  {WORKED} >= %(limit)s as overdue
from slackwater.runs r
where status = 'running' and lease_until < now() and run_id <> all(%(here)s::uuid[])
  and (%(run_ids)s::uuid[] is null or run_id = any(%(run_ids)s::uuid[]))
order by lease_until limit 100 for no key update of r skip locked"""
# A row that somebody has locked is left alone: whoever waited for it would take it before its owner has renewed it.

_DROP_WRITE = """
delete from slackwater.runs where run_id = %(run_id)s and fence = %(fence)s
  and worker is not distinct from %(worker)s and kind = 'write'
  and lease_until < clock_timestamp()"""

# A run's events go all at once: then a reader either finds every one of them, or is told that they are gone.
_TRIM_EVENTS = f"""
with old as (
  select distinct e.run_id from slackwater.run_events e join slackwater.runs r using (run_id)
  where e.created_at < clock_timestamp() - make_interval(secs => %(seconds)s)
    and r.ended_at < clock_timestamp() - make_interval(secs => %(seconds)s) limit {TRIM_RUNS}
), mine as (
  select r.run_id from slackwater.runs r join old using (run_id) for update of r skip locked
), gone as (
  delete from slackwater.run_events e using mine where e.run_id = mine.run_id
)
select run_id from mine"""

# They belong to no run.
_TRIM_STATES = """
delete from slackwater.run_events where event = 'state_update'
  and created_at < clock_timestamp() - make_interval(secs => %(seconds)s)"""

_TRIM_KEYS = (
    "delete from slackwater.idempotency_keys where created_at < clock_timestamp() - interval '24 hours'"
)

_TRIM_ITEMS = """
with old as (
  select prefix, key from store where expires_at < now() limit 1000 for update skip locked
)
delete from store s using old where s.prefix = old.prefix and s.key = old.key"""

_READERS_GONE = f"""
select run_id, thread_id, owner from slackwater.runs
where status in ('pending', 'running') and reader_left_at < clock_timestamp() - interval '{READER_SECONDS} seconds'
  and cancel_action is null limit 100"""

_READERS_HERE = """
update slackwater.runs set reader_left_at = null
where run_id = any(%(run_ids)s::uuid[]) and reader_left_at is not null and status in ('pending', 'running')"""

_STALE_THREADS = """
select t.thread_id from slackwater.threads t where t.status = 'busy'
  and (t.metadata ->> 'graph_id' is null or t.metadata ->> 'graph_id' = any(%(graphs)s)) and not exists (
  select 1 from slackwater.runs r where r.thread_id = t.thread_id and r.status in ('pending', 'running')) limit 100"""


STUCK_LEASE_SECONDS = 5
"""A run whose lease has expired is taken over within this time, or nobody sweeps often enough."""

STUCK_WAIT_SECONDS = 60
"""A run that is ready waits longer than this only when nobody has room for it, or nobody looks."""

_STUCK = f"""
select count(*) as runs from (
  (select 1 from slackwater.runs where status = 'running'
    and lease_until < clock_timestamp() - interval '{STUCK_LEASE_SECONDS} seconds' limit 1000)
  union all
  (select 1 from slackwater.runs where ready
    and available_at < clock_timestamp() - interval '{STUCK_WAIT_SECONDS} seconds' limit 1000)) stuck"""


async def sweep(runtime: Runtime) -> int:
    """One round; how many runs were taken over. Safe to do in any number of processes at once."""
    database = runtime.database
    # Before anything is done about them, and whether or not it succeeds.
    for row in await database.fetch(_STUCK):
        metrics.level(Metric.RUNS_STUCK, row["runs"])
    taken = await take_over_expired(runtime)
    if readers := list(runtime.follower.following):
        # A run may have been handed over while its reader was, and still is, connected to this process.
        await database.execute(_READERS_HERE, {"run_ids": readers})
    for row in await database.fetch(_READERS_GONE):
        await runtime.cancel(
            row["owner"], row["thread_id"], [row["run_id"]], CancelAction.INTERRUPT, READER_GONE
        )
    for row in await database.fetch(_STALE_THREADS, {"graphs": list(runtime.graphs.ids)}):
        await runtime.refresh_thread(row["thread_id"])
    await pruning.delete_due(database)
    for _ in range(TRIM_ROUNDS):
        seconds = runtime.settings.event_retention_seconds
        if len(await database.fetch(_TRIM_EVENTS, {"seconds": seconds})) < TRIM_RUNS:
            break
    await database.execute(_TRIM_STATES, {"seconds": runtime.settings.event_retention_seconds})
    await database.execute(_TRIM_KEYS)
    await pruning.expire(database, runtime.graphs.thread_ttl)
    await database.execute(_TRIM_ITEMS)
    await runtime.outbox.sweep()
    return taken


async def take_over_expired(runtime: Runtime, run_ids: Collection[UUID] | None = None) -> int:
    """Take over the runs (of `run_ids`, or all) whose lease has expired; how many there were."""
    params = {
        "run_ids": None if run_ids is None else list(run_ids),
        # What is worked on here its own renewal asks for first.
        "here": [a.run.run_id for a in runtime.worker.attempts if not a.saver.lease.lost],
        "limit": runtime.settings.run_timeout_seconds or float("inf"),
    }
    rows = await runtime.database.fetch(_EXPIRED, params)
    taken = 0
    for row in rows:
        taken += await take_over(runtime, row)
    return taken


async def take_over(runtime: Runtime, row: dict[str, Any]) -> bool:
    """Take a run from an owner whose lease has expired: requeue it, or end it as somebody wished."""
    database, run_id, thread_id = runtime.database, row["run_id"], row["thread_id"]
    whose = {"run_id": run_id, "thread_id": thread_id, "owner": row["owner"]}
    whose |= {"fence": row["fence"], "worker": row["worker"]}
    if row["kind"] == "write":
        _, _, promoted = await database.pipeline(
            (queue.LOCK, whose), (_DROP_WRITE, whose), (queue.PROMOTE, whose)
        )
        if queue.is_due(promoted):
            runtime.worker.offer()
        await runtime.refresh_thread(thread_id)
        return True
    if row["cancel_action"]:
        rollback = row["cancel_action"] == CancelAction.ROLLBACK.value
        error = (
            None if rollback else {"error": "UserInterrupt", "message": row["cancel_reason"] or "cancelled"}
        )
        settled = await settlement.end(
            database,
            **whose,
            status=RunStatus.INTERRUPTED,
            facts=ThreadFacts("busy" if rollback else "interrupted", None, {}, error),
            events=(),
            last_event=None,
            checkpoint_id=None,
            reason=row["cancel_reason"],
            rollback=rollback,
            expired=True,
        )
        await runtime.refresh_thread(thread_id)
    elif row["overdue"]:
        settled = await settlement.end(
            database,
            **whose,
            status=RunStatus.TIMEOUT,
            facts=ThreadFacts("error", None, {}, settlement.TIMED_OUT),
            events=(),
            last_event=None,
            checkpoint_id=None,
            expired=True,
        )
        await runtime.refresh_thread(thread_id)
    else:
        nodes = await _pending_names(runtime, thread_id) if row["stalls"] >= MAX_STALLS - 1 else ""
        settled = await settlement.hand_over(
            database,
            **whose,
            stopped=Stopped.LOST,
            reason="lease_expired",
            events=(),
            checkpoint_id=None,
            max_handovers=runtime.settings.max_handovers,
            nodes=nodes,
            expired=True,
        )
    if settled.error is not None:
        await runtime.refresh_thread(thread_id)
    if settled.owned:
        runtime.hints.give()
        log.warning(
            "took over a run whose process is gone",
            extra={
                "event": "run.taken_over",
                "run_id": str(run_id),
                "thread_id": str(thread_id),
                "attempt": row["attempt"],
                "fence": row["fence"],
                "reason": "lease_expired",
                "status": settled.status,
            },
        )
        runtime.worker.wake()
    return settled.owned


async def _pending_names(runtime: Runtime, thread_id: UUID) -> str:
    await engine.load()
    try:
        head = await engine.PooledSaver(runtime.database).aget_tuple(
            {"configurable": {"thread_id": str(thread_id)}}
        )
    except DATABASE_TROUBLE:
        raise
    except Exception:  # a class that is no longer there: it keeps nobody from ending the run
        log.exception(
            "checkpoint not readable", extra={"event": "sweep.unreadable", "thread_id": str(thread_id)}
        )
        return ""
    return ", ".join(sorted(engine.pending_nodes(head.checkpoint, head.pending_writes or ()))) if head else ""
