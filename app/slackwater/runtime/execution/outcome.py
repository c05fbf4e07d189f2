"""Decides the outcome of an attempt from what is really stored, and retries writing it while the lease holds."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.errors import InvalidUpdateError
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import Pregel

from slackwater.errors import LeaseLost
from slackwater.graphs.context import ContextMismatch
from slackwater.graphs.snapshot import thread_facts
from slackwater.kit import json_format
from slackwater.postgres.connection_errors import DATABASE_UNAVAILABLE
from slackwater.runtime.events.journal import Ending
from slackwater.runtime.execution import start
from slackwater.runtime.execution.attempt import UNWIND_SECONDS, Attempt
from slackwater.runtime.execution.encoding import Encoder
from slackwater.runtime.execution.failing_node import failing_node
from slackwater.runtime.execution.host import AttemptHost
from slackwater.runtime.execution.own_failure import own_failure
from slackwater.runtime.fenced import epochs, settlement, settlements
from slackwater.runtime.fenced.epochs import Standing
from slackwater.runtime.fenced.settlement import TIMED_OUT, End, HandOver, Settled, ThreadFacts, Whose
from slackwater.runtime.fenced.writer import Refused, Writer
from slackwater.runtime.queue.cancel import CancelAction
from slackwater.runtime.queue.states import Outcome, RunStatus, Stopped, StopWish

if TYPE_CHECKING:
    from slackwater.graphs.registry import Graph

log = logging.getLogger(__name__)

SETTLE_RETRY_SECONDS = 0.1


class CannotBegin(Exception):
    """The run cannot begin. Carries the error object that clients get."""

    def __init__(self, error: str, message: str) -> None:
        super().__init__(message)
        self.error = {"error": error, "message": message}


async def facts_of(
    attempt: Attempt,
    graph: Graph,
    config: RunnableConfig,
    encoder: Encoder | None,
    error: BaseException | None,
) -> ThreadFacts:
    """What the thread shows after the run. Reads the checkpoint only if the stream does not have the state."""
    if attempt.cancel_wish is not None and attempt.cancel_wish.action is CancelAction.ROLLBACK:
        return ThreadFacts("busy", None)  # read again after the rollback
    failed = attempt.outcome in (Outcome.FAILED, Outcome.TIMED_OUT)
    plain = attempt.outcome is Outcome.FINISHED and encoder is not None and not encoder.interrupted
    if plain and encoder is not None and encoder.last_values is not None and _streams_its_state(graph):
        return ThreadFacts("idle", encoder.last_values, own_failure=own_failure(encoder.last_values))
    latest = {"configurable": {"thread_id": str(attempt.run.thread_id)}}
    state = await graph.aget_state(cast("RunnableConfig", latest))
    status, values, interrupts = thread_facts(state)
    shown = json_format.dumps(values) if state.created_at is not None else None
    return ThreadFacts(
        "error" if failed else status,
        shown,
        interrupts,
        _error_object(attempt, error),
        own_failure(shown) if attempt.outcome is Outcome.FINISHED else None,
    )


def _error_object(attempt: Attempt, error: BaseException | None) -> dict[str, str] | None:
    if attempt.outcome is Outcome.CANCELLED:
        wish = attempt.cancel_wish
        if wish is None or wish.action is CancelAction.ROLLBACK:
            return None
        return {"error": "UserInterrupt", "message": wish.reason}
    if attempt.outcome is Outcome.TIMED_OUT:
        return TIMED_OUT
    if attempt.outcome is Outcome.FAILED and error is not None:
        if isinstance(error, CannotBegin):
            return error.error
        if isinstance(error, ContextMismatch):
            return {"error": error.error, "message": str(error)}
        node = _node_of(attempt, error)
        return json_format.error_object(error) | ({"node": node} if node else {})
    return None


def _node_of(attempt: Attempt, error: BaseException) -> str | None:
    """The node that raised the error, or all nodes of the superstep if it failed as a whole."""
    whole = isinstance(error, TimeoutError | InvalidUpdateError) or error is attempt.writer.failure
    return failing_node(error) or (pending_names(attempt.writer) if whole else None) or None


def _streams_its_state(graph: Pregel[Any, Any, Any, Any]) -> bool:
    return isinstance(graph, CompiledStateGraph) and graph.output_channels == graph.stream_channels_asis


async def conclude(
    attempt: Attempt, host: AttemptHost, facts: ThreadFacts | None, error: BaseException | None
) -> Settled:
    """Settle the run by the attempt's outcome. Retried while the lease holds, since nobody else may write this state."""
    attempt.ended = time.monotonic()
    if attempt.leftovers:
        await asyncio.wait(attempt.leftovers, timeout=max(0.0, attempt.lease.deadline - time.monotonic()))
    if (head := _held_to_the_end(attempt, facts)) is not None:
        settled = await _settle_with(head["id"], attempt, host, facts)
        if settled.owned:
            return settled
    await attempt.writer.written()
    proved = _proved(attempt.outcome, attempt.writer.failure)
    if proved is not attempt.outcome:
        attempt.outcome, facts, error = proved, None, attempt.writer.failure
    if attempt.outcome is Outcome.FAILED and error is not None:
        error_object = _error_object(attempt, error) or {}
        if facts is None:
            facts = ThreadFacts("error", None, {}, error_object)
        elif facts.error is not None:
            facts = replace(facts, error=error_object)
        attempt.writer.publish("error", json_format.dumps(json_format.plain_error(error_object)))
        log.warning(
            "run failed",
            exc_info=error if not isinstance(error, CannotBegin) else None,
            extra=_extra(attempt) | {"node": error_object.get("node")},
        )
    elif attempt.outcome is Outcome.TIMED_OUT:
        facts = facts or ThreadFacts("error", None, {}, TIMED_OUT)
        log.warning(
            "run exceeded its time limit", extra=_extra(attempt) | {"node": pending_names(attempt.writer)}
        )
    elif attempt.outcome is Outcome.CANCELLED and facts is None:
        facts = ThreadFacts("busy", None, {}, _error_object(attempt, None))
    if attempt.outcome is Outcome.LOST or attempt.lease.lost:
        attempt.outcome = Outcome.LOST
        attempt.journal.close(Ending.GONE_ON)
        log.warning("lease lost", extra=_extra(attempt))
        if not attempt.given_up:
            # While its nodes' threads run, the attempt is not over: this process must not start the run again beside them.
            await host.threads.idle(attempt.run.run_id, UNWIND_SECONDS[StopWish.LEASE_LOST])
        return Settled(owned=False)
    if attempt.wish is StopWish.FORGOTTEN:
        # Not deferred to the end of a drain: there is no drain.
        if not attempt.given_up:
            await host.threads.idle(attempt.run.run_id, UNWIND_SECONDS[StopWish.FORGOTTEN])
    elif attempt.outcome is Outcome.CUT and host.threads.busy(attempt.run.run_id):
        attempt.defer()
        return Settled(owned=True)
    return await settle(attempt, host, facts)


def _proved(outcome: Outcome | None, failure: Exception | None) -> Outcome | None:
    """The outcome after taking failed writes into account: a run has ended, or is at a boundary, only if its checkpoint is
    stored. LangGraph does not report a put that was refused, or that failed while a drain or a breakpoint ended the graph.
    """
    if failure is None or outcome in (Outcome.CANCELLED, Outcome.TIMED_OUT, Outcome.CUT, Outcome.LOST):
        return outcome
    if isinstance(failure, LeaseLost):
        return Outcome.LOST
    return Outcome.CUT if isinstance(failure, Refused) else Outcome.FAILED


def _held_to_the_end(attempt: Attempt, facts: ThreadFacts | None) -> Any | None:
    """The run's last checkpoint, if the transaction that settles the run is to store it."""
    finished = attempt.outcome is Outcome.FINISHED and facts is not None
    if finished or attempt.outcome is Outcome.DRAINED:
        return attempt.writer.hold_to_the_end(ends=finished)
    return None


async def _settle_with(
    checkpoint_id: str, attempt: Attempt, host: AttemptHost, facts: ThreadFacts | None
) -> Settled:
    """Settle the run in the transaction that stores its last checkpoint; not `owned` if that needs two transactions."""
    writer, facts = attempt.writer, facts or ThreadFacts("busy", None)
    try:
        settled = await _together(attempt, host, facts, checkpoint_id)
    except asyncio.CancelledError:
        attempt.journal.close(Ending.GONE_ON)
        raise
    if settled is not None:
        writer.stored()
        return await _settled(attempt, host, facts, settled)
    await writer.written()
    if isinstance(writer.failure, LeaseLost):
        # Perhaps only the response was lost, and we have settled the run already.
        return await settle(attempt, host, facts)
    return Settled(owned=False)


async def settle(attempt: Attempt, host: AttemptHost, facts: ThreadFacts | None = None) -> Settled:
    """End the run or hand it over, by the attempt's outcome."""
    if attempt.settled is not None:
        return Settled(owned=True, status=attempt.settled)
    facts, lease, asked = facts or ThreadFacts("busy", None), attempt.lease, False
    while True:
        try:
            settled = await _together(attempt, host, facts)
            if settled is None:
                async with host.settling:
                    settled = await _write(attempt, host, facts)
            standing = Standing.WHOLE if settled.owned else await epochs.look(host.database, lease)
            if standing is Standing.FORGOTTEN:
                attempt.outcome = Outcome.CUT  # its real outcome is not stored
            elif settled.owned or standing is Standing.LOST:
                break
        except asyncio.CancelledError:
            attempt.journal.close(Ending.GONE_ON)
            raise
        except DATABASE_UNAVAILABLE as problem:
            # A lost connection, or a restarting database. The statement is a compare-and-set, so retrying is safe.
            # If the run is no longer ours, perhaps we settled it and only the response was lost: ask once more.
            if not await lease.holds() and (asked or not lease.lost):
                log.error("run not settled: %s; its lease will expire", problem, extra=_extra(attempt))
                attempt.journal.close(Ending.GONE_ON)
                return Settled(owned=False)
            asked = lease.lost
            await asyncio.sleep(SETTLE_RETRY_SECONDS)
    return await _settled(attempt, host, facts, settled)


async def _settled(attempt: Attempt, host: AttemptHost, facts: ThreadFacts, settled: Settled) -> Settled:
    """Notify readers, other processes and the webhook of the settlement."""
    if settled.owned:
        attempt.settled = settled.status
    if attempt.settled == RunStatus.PENDING.value:
        host.wakeups.send()
    elif settled.owned and attempt.run.kwargs.get("webhook"):
        host.outbox.nudge()
    if settled.error is not None:
        # A guard has ended the run. The row and the log have the error already; readers in this process need it too.
        attempt.journal.append("error", settled.error)
    over = settled.owned and settled.status != RunStatus.PENDING.value
    if over and (facts.status == "busy" or settled.error is not None or attempt.given_up):
        # Before readers see the end, since they read the thread next.
        await _refresh(attempt, host)
    deleted = attempt.cancel_wish is not None and attempt.cancel_wish.deletes
    attempt.journal.close(Ending.SETTLED if over and not deleted else Ending.GONE_ON)
    return settled


async def _refresh(attempt: Attempt, host: AttemptHost) -> None:
    try:
        await host.refresh_thread(attempt.run.thread_id)
    except DATABASE_UNAVAILABLE as problem:
        log.warning("thread not read again: %s; the next sweep does", problem, extra=_extra(attempt))


async def _together(
    attempt: Attempt, host: AttemptHost, facts: ThreadFacts, stored_with: str | None = None
) -> Settled | None:
    """Settle the run in a statement shared with other runs; None if it has to be settled alone.

    `stored_with`: the id of its last checkpoint, which its writer holds.
    """
    last = attempt.writer if stored_with is not None else None
    if attempt.outcome is Outcome.DRAINED:
        return await settlements.hand_over(host.group_commit, _hand_over(attempt, host, stored_with), last)
    if attempt.outcome is Outcome.CUT or _rolls_back(attempt):
        return None
    return await settlements.end(host.group_commit, _end(attempt, facts, stored_with), last)


async def _write(attempt: Attempt, host: AttemptHost, facts: ThreadFacts) -> Settled:
    if attempt.outcome in (Outcome.DRAINED, Outcome.CUT):
        how = _hand_over(attempt, host)
        return await settlement.hand_over(host.database, how, forgotten=attempt.lease.forgotten)
    return await settlement.end(host.database, _end(attempt, facts), rollback=_rolls_back(attempt))


def _hand_over(attempt: Attempt, host: AttemptHost, stored_with: str | None = None) -> HandOver:
    outcome = attempt.outcome
    assert outcome is not None
    return HandOver(
        _whose(attempt, stored_with),
        stopped=Stopped.DRAINED if outcome is Outcome.DRAINED else Stopped.CUT,
        reason=attempt.drain_reason or outcome.value,
        max_handovers=host.max_handovers,
        nodes=pending_names(attempt.writer),
    )


_STATUSES = {
    Outcome.FINISHED: RunStatus.SUCCESS,
    Outcome.FAILED: RunStatus.ERROR,
    Outcome.CANCELLED: RunStatus.INTERRUPTED,
    Outcome.TIMED_OUT: RunStatus.TIMEOUT,
}


def _end(attempt: Attempt, facts: ThreadFacts, stored_with: str | None = None) -> End:
    assert attempt.outcome is not None
    return End(
        _whose(attempt, stored_with),
        _STATUSES[attempt.outcome],
        facts,
        last_event=str(attempt.journal.last) if attempt.journal.last.seq else None,
        reason=attempt.cancel_wish.reason if attempt.cancel_wish else None,
    )


def _whose(attempt: Attempt, stored_with: str | None) -> Whose:
    run, writer, lease = attempt.run, attempt.writer, attempt.lease
    forgotten, held = lease.forgotten, stored_with is not None
    return Whose(
        run.run_id,
        run.thread_id,
        run.owner,
        run.fence,
        lease.worker,
        # After a failover the unwritten events belong to supersteps that run again.
        events=writer.take_events() if not (forgotten or held) else [],
        checkpoint_id=stored_with or writer.head_id if not forgotten else None,
        stored_with=stored_with,
        records=writer.last_records(ends=attempt.outcome in _STATUSES) if not held else {},
    )


def _rolls_back(attempt: Attempt) -> bool:
    wish = attempt.cancel_wish
    return wish is not None and wish.action is CancelAction.ROLLBACK


def pending_names(writer: Writer) -> str:
    """The nodes that are running or next, for messages."""
    return ", ".join(sorted(start.pending_nodes(writer.head))) if writer.head is not None else ""


def _extra(attempt: Attempt) -> dict[str, Any]:
    run = attempt.run
    return {
        "event": f"run.{(attempt.outcome or Outcome.LOST).value}",
        "run_id": str(run.run_id),
        "thread_id": str(run.thread_id),
        "attempt": run.attempt,
        "fence": run.fence,
        "reason": attempt.wish.value if attempt.wish else None,
    }
