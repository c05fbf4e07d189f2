"""Takes over runs whose lease has expired, since their process is gone: requeues them in batches, or ends them.

All runs are settled first, with SQL only. Reading a thread's state runs code of its graph, and comes last.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import TYPE_CHECKING, Any
from uuid import UUID

from slackwater.kit.bounded import bounded
from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE
from slackwater.postgres.pool import Row
from slackwater.runtime.execution import engine
from slackwater.runtime.fenced import settlement
from slackwater.runtime.fenced.settlement import End, HandOver, ThreadFacts, Whose
from slackwater.runtime.queue import order
from slackwater.runtime.queue.batch import Batch
from slackwater.runtime.queue.cancel import CancelAction
from slackwater.runtime.queue.claims import MAX_STALLS, PROGRESS, WORKED
from slackwater.runtime.queue.many import of_one
from slackwater.runtime.queue.states import RunStatus, Stopped
from slackwater.telemetry import metrics
from slackwater.telemetry.metrics import Metric

if TYPE_CHECKING:
    from slackwater.runtime.runtime import Runtime

log = logging.getLogger(__name__)

READ_SECONDS = 12.0
"""How long reading one thread's state may take: a little more than opening its graph, which is user code."""

_REASON = "lease_expired"

_OVERDUE = f"{WORKED} >= %(limit_seconds)s"

# `now()` and not `clock_timestamp()`, which is volatile and prevents an index scan.
_GONE = """r.status = 'running' and r.lease_until < now() and r.run_id <> all(%(here)s::uuid[])"""

_PLAIN = f"""r.kind = 'run' and r.cancel_action is null and r.stalls < {MAX_STALLS - 1}
  and r.handovers < %(max_handovers)s and not {_OVERDUE}"""
"""There is nothing to decide, and no guard could end the run: it is requeued."""

# Locked rows of runs and threads are skipped. After waiting for one, the take-over would come before the renewal of an owner
# that was only delayed.
REQUEUE = f"""
with expired as materialized (
  select r.run_id, r.thread_id, r.fence, r.worker from slackwater.runs r
  where {_GONE} and {_PLAIN} order by r.lease_until limit %(limit)s
), locked as (
  select t.thread_id from slackwater.threads t join expired using (thread_id)
  order by t.thread_id for update of t skip locked
), mine as (
  select r.run_id, e.fence, r.worker from slackwater.runs r join expired e using (run_id)
  join locked l on l.thread_id = r.thread_id
  where r.fence = e.fence and r.worker is not distinct from e.worker and {_GONE} and {_PLAIN}
  for no key update of r skip locked
), now as (
  select r.run_id, {PROGRESS} as progress from slackwater.runs r join mine using (run_id)
)
-- It has held its thread, so nothing else of it is ready, and it is the next one.
update slackwater.runs r set {settlement.given_back(of_one)}, ready = true
from now where r.run_id = now.run_id
returning r.run_id, r.thread_id, r.attempt, r.fence"""

EXPIRED = f"""
select r.run_id, r.thread_id, r.owner, r.kind, r.fence, r.worker, r.cancel_action, r.cancel_reason, r.stalls, r.attempt,
  {_OVERDUE} as overdue
from slackwater.runs r join slackwater.threads t using (thread_id)
where {_GONE} and (%(run_ids)s::uuid[] is null or r.run_id = any(%(run_ids)s::uuid[]))
  and (%(all)s or not ({_PLAIN}))
order by r.lease_until limit %(limit)s for no key update of r, t skip locked"""

_DROP_WRITE = """
delete from slackwater.runs where run_id = %(run_id)s and fence = %(fence)s
  and worker is not distinct from %(worker)s and kind = 'write'
  and lease_until < clock_timestamp() returning run_id"""


async def take_over_all(runtime: Runtime, batch: Batch) -> int:
    """Take over all runs whose lease has expired; how many."""
    taken = 0
    params = _params(runtime, None)
    while True:
        with batch.sized() as limit:
            rows = await runtime.database.fetch(REQUEUE, {**params, "limit": limit})
        _requeued(runtime, rows)
        taken += len(rows)
        if not rows:
            break
    stale: list[UUID] = []
    while True:
        with batch.sized() as limit:
            rows = await runtime.database.fetch(EXPIRED, {**params, "all": False, "limit": limit})
        done = [await _take_over(runtime, row, stale) for row in rows]
        taken += sum(done)
        if not any(done) or len(rows) < limit:
            break
    await _show(runtime, stale)
    return taken


async def take_over_expired(runtime: Runtime, run_ids: Collection[UUID]) -> int:
    """Take over those of the runs whose lease has expired; how many."""
    stale: list[UUID] = []
    params = {**_params(runtime, run_ids), "all": True, "limit": len(run_ids)}
    rows = await runtime.database.fetch(EXPIRED, params)
    taken = sum([await _take_over(runtime, row, stale) for row in rows])
    await _show(runtime, stale)
    return taken


def _params(runtime: Runtime, run_ids: Collection[UUID] | None) -> dict[str, Any]:
    return {
        "run_ids": None if run_ids is None else list(run_ids),
        # Not the runs of this process: its renewal asks for their leases first.
        "here": [a.run.run_id for a in runtime.worker.attempts if not a.lease.lost],
        "limit_seconds": runtime.settings.run_timeout_seconds or float("inf"),
        "max_handovers": runtime.settings.max_handovers,
        "stopped": Stopped.LOST.value,
        "reason": _REASON,
        "checkpoint_id": None,
    }


def _requeued(runtime: Runtime, rows: Collection[Row]) -> None:
    for row in rows:
        metrics.count(Metric.RUNS_TAKEN_OVER)
        _tell(row, RunStatus.PENDING.value)
    if rows:
        _announce(runtime, len(rows))


async def _take_over(runtime: Runtime, row: Row, stale: list[UUID]) -> bool:
    """Requeue one run, or end it. An error with one run does not stop the others."""
    try:
        return await _settle(runtime, row, stale)
    except DATABASE_UNAVAILABLE:
        raise
    except Exception:
        log.exception(
            "run not taken over; the next sweep tries again",
            extra={"event": "sweep.failed", "job": "take over", "run_id": str(row["run_id"])},
        )
        return False


async def _settle(runtime: Runtime, row: Row, stale: list[UUID]) -> bool:
    database, run_id, thread_id = runtime.database, row["run_id"], row["thread_id"]
    whose = Whose(run_id, thread_id, row["owner"], row["fence"], row["worker"])
    if row["kind"] == "write":
        params = settlement.of_attempt(whose)
        answers = await database.answers(
            locked=(order.LOCK, params), dropped=(_DROP_WRITE, params), promoted=(order.PROMOTE, params)
        )
        if order.is_due(answers["promoted"]):
            runtime.worker.offer()
        stale.append(thread_id)
        return bool(answers["dropped"])
    if row["cancel_action"]:
        rollback = row["cancel_action"] == CancelAction.ROLLBACK.value
        error = (
            None if rollback else {"error": "UserInterrupt", "message": row["cancel_reason"] or "cancelled"}
        )
        facts = ThreadFacts("busy" if rollback else "interrupted", None, {}, error)
        end = End(whose, RunStatus.INTERRUPTED, facts, reason=row["cancel_reason"])
        settled = await settlement.end(database, end, rollback=rollback, expired=True)
        stale.append(thread_id)
    elif row["overdue"]:
        end = End(whose, RunStatus.TIMEOUT, ThreadFacts("error", None, {}, settlement.TIMED_OUT))
        settled = await settlement.end(database, end, expired=True)
        stale.append(thread_id)
    else:
        last = row["stalls"] >= MAX_STALLS - 1
        nodes = await bounded(_pending_names(runtime, thread_id), READ_SECONDS, "") if last else ""
        handed_over = HandOver(whose, Stopped.LOST, _REASON, runtime.settings.max_handovers, nodes)
        settled = await settlement.hand_over(database, handed_over, expired=True)
    if settled.error is not None:
        stale.append(thread_id)
    if settled.owned:
        _tell(row, settled.status)
        _announce(runtime, 1)
    return settled.owned


def _announce(runtime: Runtime, runs: int) -> None:
    # Elsewhere as well, even if there is room here: who has died may have left many.
    runtime.wakeups.send(runs)
    # Counted, since a claim that meets the thread locked (its state is read again just now) skips the run and has to come back.
    runtime.worker.announce(runs)


def _tell(row: Row, status: str | None) -> None:
    log.warning(
        "took over a run whose process is gone",
        extra={
            "event": "run.taken_over",
            "run_id": str(row["run_id"]),
            "thread_id": str(row["thread_id"]),
            "attempt": row["attempt"],
            "fence": row["fence"],
            "reason": _REASON,
            "status": status,
        },
    )


async def _show(runtime: Runtime, threads: Collection[UUID]) -> None:
    for thread_id in dict.fromkeys(threads):
        await read_again(runtime, thread_id)


async def read_again(runtime: Runtime, thread_id: UUID) -> None:
    """Read the thread's state again. If that hangs or fails, only this thread is affected."""
    try:
        await bounded(runtime.refresh_thread(thread_id), READ_SECONDS, None)
    except DATABASE_UNAVAILABLE as problem:
        log.warning(
            "thread not read again: %s; the next sweep does",
            problem,
            extra={"event": "sweep.trouble", "job": "threads", "thread_id": str(thread_id)},
        )


async def _pending_names(runtime: Runtime, thread_id: UUID) -> str:
    await engine.load()
    try:
        head = await engine.PooledSaver(runtime.database).aget_tuple(
            {"configurable": {"thread_id": str(thread_id)}}
        )
    except DATABASE_UNAVAILABLE:
        raise
    except Exception:  # such as a class that no longer exists: the run is ended all the same
        log.exception(
            "checkpoint not readable", extra={"event": "sweep.unreadable", "thread_id": str(thread_id)}
        )
        return ""
    return ", ".join(sorted(engine.pending_nodes(head.checkpoint, head.pending_writes or ()))) if head else ""
