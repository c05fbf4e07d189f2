"""Drives one attempt: opens the graph, streams it into the journal, and settles what really happened."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, Protocol, cast
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphDrained, GraphRecursionError
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import Pregel
from langgraph.runtime import RunControl
from langgraph.types import Command, StateSnapshot

from app import wire
from app.errors import LeaseLost
from app.graphs.snapshot import thread_facts
from app.graphs.topology import subgraph_at
from app.postgres.pool import Database
from app.postgres.trouble import DATABASE_TROUBLE
from app.runtime import settlement, start
from app.runtime.attempt import Attempt
from app.runtime.cancel import CancelAction
from app.runtime.encode import INTERRUPT, Encoder, Event, StreamPlan
from app.runtime.hints import Hints
from app.runtime.journal import Ending
from app.runtime.resumption import Published
from app.runtime.saver import RunSaver
from app.runtime.settlement import Settled, ThreadFacts
from app.runtime.start import Begin, Impossible, Level, Opening, Over
from app.runtime.states import Outcome, RunStatus, Stopped, StopWish
from app.runtime.threads import NodeThreads, current_run

if TYPE_CHECKING:
    from langgraph.store.base import BaseStore

    from app.graphs.registry import Graph, Graphs

log = logging.getLogger(__name__)

SETTLE_RETRY_SECONDS = 0.1


class Shop(Protocol):
    """What an attempt needs of the process around it."""

    database: Database
    graphs: Graphs
    store: BaseStore
    threads: NodeThreads
    hints: Hints
    max_handovers: int
    settling: asyncio.Semaphore

    @property
    def draining(self) -> bool: ...
    @property
    def drain_reason(self) -> str: ...
    async def refresh_thread(self, thread_id: UUID) -> None: ...


class _Failure(Exception):
    """A run that cannot begin; carries the wire's error object."""

    def __init__(self, error: str, message: str) -> None:
        super().__init__(message)
        self.error = {"error": error, "message": message}


async def execute(attempt: Attempt, shop: Shop) -> Settled:
    """Run the attempt to its end, whatever that is. Never raises for what the graph does.

    This is the one place where the cancellation of a run is handled: `attempt.wish` says what it means.
    """
    attempt.begun = True
    current_run.set(attempt.run.run_id)
    run, error, facts = attempt.run, None, None
    encoder: Encoder | None = None
    config = run_config(attempt)
    try:
        async with shop.graphs.open(
            run.graph_id,
            config=config,
            access="threads.create_run",
            checkpointer=attempt.saver,
            store=shop.store,
            context=run.kwargs.get("context"),
        ) as graph:
            try:
                if attempt.wish is not None:
                    raise asyncio.CancelledError  # somebody wanted it stopped before its first turn
                opening = await _open(attempt, graph, config)
                encoder = await _encoder(attempt, shop, opening)
                if (run.attempt == 1 and run.stopped is None) or run.repeats:
                    attempt.saver.publish(
                        "metadata", wire.dumps({"run_id": str(run.run_id), "attempt": run.attempt})
                    )
                if isinstance(opening, Begin):
                    await _stream(attempt, graph, config, opening, encoder)
                else:
                    await _say_the_rest(attempt, graph, config, opening, encoder)
                    if isinstance(opening, Impossible):
                        raise _Failure(opening.error, opening.message)
                attempt.outcome, attempt.graph_done = Outcome.FINISHED, True
            except BaseException as problem:
                attempt.outcome, error = _judge(attempt, problem), problem
                attempt.graph_done = True
            if attempt.outcome not in (Outcome.LOST, Outcome.DRAINED, Outcome.CUT):
                facts = await _facts(attempt, graph, config, encoder, error)
    except BaseException as problem:
        # The graph's own factory failed, or the state could not be read: the run's outcome, if any, stands.
        if attempt.outcome is None or not isinstance(problem, Exception):
            attempt.outcome, error = attempt.outcome or _judge(attempt, problem), error or problem
        attempt.graph_done = True
    return await _settle(attempt, shop, facts, error)


def _judge(attempt: Attempt, problem: BaseException) -> Outcome:
    """What an exception out of the graph means. Decided at once: nothing may come between it and the outcome."""
    if isinstance(problem, asyncio.CancelledError):
        attempt.tails += [tail for tail in problem.args if isinstance(tail, asyncio.Task)]
    if attempt.wish is StopWish.LEASE_LOST or attempt.saver.lease.lost or isinstance(problem, LeaseLost):
        return Outcome.LOST
    # Whatever came out after the cancellation: many a library turns one into an error of its own.
    if attempt.wish is not None:
        return Outcome.CANCELLED if attempt.wish is StopWish.CANCEL else Outcome.CUT
    if isinstance(problem, GraphDrained):
        return Outcome.DRAINED
    task = asyncio.current_task()
    if isinstance(problem, asyncio.CancelledError) and task is not None and task.cancelling():
        return Outcome.CUT
    return Outcome.FAILED  # a node that raises CancelledError though nobody has cancelled it fails, too


def run_config(attempt: Attempt) -> RunnableConfig:
    """The config that the graph gets: the request's, with the ids of the run in configurable and metadata."""
    run = attempt.run
    asked = run.kwargs.get("config") or {}
    ids = {
        "run_id": str(run.run_id),
        "thread_id": str(run.thread_id),
        "graph_id": run.graph_id,
        "assistant_id": str(run.assistant_id),
        "user_id": run.owner,
    }
    config: dict[str, Any] = {
        "configurable": {**(asked.get("configurable") or {}), **ids, "langgraph_auth_user_id": run.owner},
        "metadata": {**run.metadata, **ids, "run_attempt": run.attempt},
        "run_id": run.run_id,
    }
    for name in ("tags", "recursion_limit", "max_concurrency"):
        if asked.get(name) is not None:
            config[name] = asked[name]
    config.setdefault("tags", [])
    return cast("RunnableConfig", config)


async def _open(attempt: Attempt, graph: Graph, config: RunnableConfig) -> Opening:
    run = attempt.run
    if not run.input_applied:
        kwargs = run.kwargs
        given = start.first_input(kwargs)
        if isinstance(given, Command) and isinstance(given.resume, dict) and run.stopped is not None:
            given = await _unanswered(attempt, given)
        return Begin(given)
    # A fork goes on from the run's own last checkpoint, not from where it forked.
    for key in start.CHECKPOINT_KEYS:
        config["configurable"].pop(key, None)
    attempt.saver.continues = True
    return start.open_again(run, await _levels(attempt.saver, graph, config))


async def _levels(saver: RunSaver, graph: Graph, config: RunnableConfig) -> list[Level]:
    """Where the graph and the graphs inside its tasks stand."""
    levels: list[Level] = []
    todo: list[tuple[Graph, StateSnapshot]] = [(graph, await graph.aget_state(config, subgraphs=True))]
    while todo:
        here, state = todo.pop(0)
        head = await saver.aget_tuple(state.config)
        if head is None:
            continue
        parent = await saver.aget_tuple(head.parent_config) if head.parent_config else None
        levels.append(Level(here, head, parent, state.tasks))
        for task in state.tasks:
            inner = subgraph_at(here, (task.name,))
            if isinstance(task.state, StateSnapshot) and inner is not None:
                todo.append((inner, task.state))
    return levels


async def _unanswered(attempt: Attempt, command: Command[Any]) -> Command[Any] | None:
    """`command` without the answers that a task has stored already: LangGraph would append them again."""
    answered = await attempt.saver.answered_interrupts()
    left = {
        key: value for key, value in cast("dict[str, Any]", command.resume).items() if key not in answered
    }
    if left or command.update is not None or command.goto:
        return Command(resume=left or None, update=command.update, goto=command.goto)
    return None


async def _encoder(attempt: Attempt, shop: Shop, opening: Opening) -> Encoder:
    run = attempt.run
    plan = StreamPlan.of(run.kwargs.get("stream_mode"), subgraphs=bool(run.kwargs.get("subgraphs")))
    resumed = not isinstance(opening, Begin) or opening.resumed
    published = None
    if resumed:
        # What LangGraph says again was heard already, but for what a crash has left unsaid.
        rows = await attempt.saver.patiently(lambda: shop.database.fetch(_PUBLISHED, {"run_id": run.run_id}))
        told = ((row["event"], row["data"].encode()) for row in rows)
        published = Published.of(told, clean=not run.repeats)
    return Encoder(plan, run_id=str(run.run_id), resumed=resumed, published=published)


_PUBLISHED = """
with since as (
  select fence, seq from slackwater.run_events where run_id = %(run_id)s and event in ('values', 'checkpoints')
  order by fence desc, seq desc offset 5 limit 1)
select event, data from slackwater.run_events where run_id = %(run_id)s
  and (fence, seq) >= (coalesce((select fence from since), 0), coalesce((select seq from since), 0))
order by fence, seq"""
"""The last three boundaries, of two events each: `async` durability loses two supersteps at most."""


async def _stream(
    attempt: Attempt, graph: Graph, config: RunnableConfig, begin: Begin, encoder: Encoder
) -> None:
    """Drive the graph and publish what it streams."""
    saver, kwargs = attempt.saver, attempt.run.kwargs
    before, after = kwargs.get("interrupt_before"), kwargs.get("interrupt_after")
    options: dict[str, Any] = {
        "stream_mode": encoder.modes,
        "subgraphs": encoder.plan.subgraphs,
        "durability": durability(kwargs, graph),
        "control": attempt.control,
        "context": context_of(graph, kwargs),
        "interrupt_before": before,
        "interrupt_after": after,
    }
    # With `sync` LangGraph waits by itself, and with `exit` there is nothing to wait for.
    bounded = options["durability"] == "async"
    if bounded and any(True for _ in graph.get_subgraphs()):
        config["callbacks"] = [_Pace(saver)]
    # aclosing: a cancellation between two chunks must not leave the generator to the garbage collector.
    drive = graph.astream_events if encoder.plan.use_events else graph.astream
    if encoder.plan.use_events:
        options["version"] = "v2"
    try:
        async with aclosing(cast("Any", drive)(begin.input, config, **options)) as said:
            async for item in said:
                if encoder.plan.use_events:
                    _publish(saver, encoder.feed_event(item))
                else:
                    _publish(saver, encoder.feed(*encoder.plan.chunk(item)))
                if begin.last_from is not None and encoder.step == begin.last_from:
                    attempt.control.request_drain("the superstep that runs now is the last one allowed")
                await _before_more(saver, bounded)
    except GraphDrained:
        if not _out_of_steps(begin, encoder):
            raise
    if _out_of_steps(begin, encoder):
        raise GraphRecursionError(start.out_of_steps(start.recursion_limit(kwargs, graph)))


class _Pace(AsyncCallbackHandler):
    """Holds the nodes of subgraphs back until what was done before them is stored: their chunks wait for nobody."""

    def __init__(self, saver: RunSaver) -> None:
        self._saver = saver

    async def on_chain_start(self, *args: Any, **kwargs: Any) -> None:
        await self._saver.keep_up()


def _out_of_steps(begin: Begin, encoder: Encoder) -> bool:
    return (
        begin.last_from is not None
        and encoder.step is not None
        and encoder.step > begin.last_from
        and not encoder.interrupted
    )


async def _say_the_rest(
    attempt: Attempt, graph: Graph, config: RunnableConfig, over: Over | Impossible, encoder: Encoder
) -> None:
    """Publish what the last attempt has stored but not said, so that its readers do not end one superstep early."""
    if attempt.saver.head is None:
        return
    nothing_more = RunControl()
    nothing_more.request_drain("over")  # a graph that begins like this says where it stands, and runs no node
    options: dict[str, Any] = {
        "stream_mode": encoder.modes,
        "subgraphs": encoder.plan.subgraphs,
        "durability": "async",
        "control": nothing_more,
        "context": context_of(graph, attempt.run.kwargs),
    }
    with suppress(GraphDrained):
        async with aclosing(cast("Any", graph.astream)(None, config, **options)) as said:
            async for item in said:
                _publish(attempt.saver, encoder.feed(*encoder.plan.chunk(item)))
    if isinstance(over, Over) and over.held:
        _publish(attempt.saver, encoder.feed((), "updates", {INTERRUPT: ()}))


def _publish(saver: RunSaver, events: Iterable[Event]) -> None:
    for event in events:
        saver.publish(event.name, event.data)


async def _before_more(saver: RunSaver, bounded: bool) -> None:
    """What has to hold before the graph may go on; between two supersteps it always asks."""
    if bounded:
        await saver.breathe()
    if not saver.lease.valid():
        # A process that was stopped wakes up in the middle of a node, or of the wait above: no further one may begin.
        raise LeaseLost


def durability(kwargs: Mapping[str, Any], graph: Graph) -> str:
    """The durability to run with. Two of LangGraph's own combinations lose work or crash, and are coerced.

    `exit` drops what a subgraph has done when it is drained inside, and `sync` fails inside a subgraph that was
    compiled with `checkpointer=False` (both langgraph 1.2.22).
    """
    asked = str(kwargs.get("durability") or "async")
    if asked == "async":
        return asked
    nested = [sub for _, sub in graph.get_subgraphs(recurse=True)]
    if (asked == "exit" and nested) or (
        asked == "sync" and any(getattr(sub, "checkpointer", None) is False for sub in nested)
    ):
        log.info(
            "durability %s is unsafe with this graph's subgraphs: async",
            asked,
            extra={"event": "run.durability"},
        )
        return "async"
    return asked


def context_of(graph: Graph, kwargs: Mapping[str, Any]) -> Any:
    """The run's context, without the keys that the graph's context schema does not declare."""
    context = kwargs.get("context")
    schema = graph.context_schema
    if not context or schema is None or not isinstance(context, dict):
        return context or None
    declared = getattr(schema, "model_fields", None) or getattr(schema, "__annotations__", None)
    if declared is None:
        return context
    return {key: value for key, value in context.items() if key in declared}


async def _facts(
    attempt: Attempt,
    graph: Graph,
    config: RunnableConfig,
    encoder: Encoder | None,
    error: BaseException | None,
) -> ThreadFacts:
    """What the thread shows when the run has ended. Needs the checkpoint only when the stream does not say it."""
    if attempt.cancel_wish is not None and attempt.cancel_wish.action is CancelAction.ROLLBACK:
        return ThreadFacts("busy", None)  # read again when the rollback is done
    failed = attempt.outcome is Outcome.FAILED
    plain = attempt.outcome is Outcome.FINISHED and encoder is not None and not encoder.interrupted
    if plain and encoder is not None and encoder.last_values is not None and _streams_its_state(graph):
        return ThreadFacts("idle", encoder.last_values)
    latest = {"configurable": {"thread_id": str(attempt.run.thread_id)}}
    state = await graph.aget_state(cast("RunnableConfig", latest))
    status, values, interrupts = thread_facts(state)
    return ThreadFacts(
        "error" if failed else status,
        wire.dumps(values) if state.created_at is not None else None,
        interrupts,
        _error_object(attempt, error),
    )


def _error_object(attempt: Attempt, error: BaseException | None) -> dict[str, str] | None:
    if attempt.outcome is Outcome.CANCELLED:
        wish = attempt.cancel_wish
        if wish is None or wish.action is CancelAction.ROLLBACK:
            return None
        return {"error": "UserInterrupt", "message": wish.reason}
    if attempt.outcome is Outcome.FAILED and error is not None:
        return error.error if isinstance(error, _Failure) else wire.error_object(error)
    return None


def _streams_its_state(graph: Pregel[Any, Any, Any, Any]) -> bool:
    return isinstance(graph, CompiledStateGraph) and graph.output_channels == graph.stream_channels_asis


async def _settle(
    attempt: Attempt, shop: Shop, facts: ThreadFacts | None, error: BaseException | None
) -> Settled:
    """Write what has happened; retried while the lease is ours, since the state of a run is nobody else's to write."""
    attempt.ended = time.monotonic()
    if attempt.outcome is Outcome.FAILED and error is not None:
        error_object = _error_object(attempt, error) or {}
        if facts is None:
            facts = ThreadFacts("error", None, {}, error_object)
        attempt.saver.publish("error", wire.dumps(error_object))
        log.warning(
            "run failed", exc_info=error if not isinstance(error, _Failure) else None, extra=_extra(attempt)
        )
    if attempt.tails:
        await asyncio.wait(attempt.tails, timeout=max(0.0, attempt.saver.lease.deadline - time.monotonic()))
    await attempt.saver.written()
    if attempt.outcome is Outcome.LOST or attempt.saver.lease.lost:
        attempt.outcome = Outcome.LOST
        attempt.journal.close(Ending.GONE_ON)
        log.warning("lease lost", extra=_extra(attempt))
        return Settled(owned=False)
    if attempt.outcome is Outcome.CUT and shop.threads.busy(attempt.run.run_id):
        attempt.deferred = True
        return Settled(owned=True)
    return await settle(attempt, shop, facts)


async def settle(attempt: Attempt, shop: Shop, facts: ThreadFacts | None = None) -> Settled:
    """End or hand over the run whose attempt has its outcome."""
    if attempt.settled is not None:
        return Settled(owned=True, status=attempt.settled)
    facts = facts or ThreadFacts("busy", None)
    while True:
        try:
            async with shop.settling:
                settled = await _write(attempt, shop, facts)
            break
        except asyncio.CancelledError:
            attempt.journal.close(Ending.GONE_ON)
            raise
        except DATABASE_TROUBLE as problem:
            # A lost connection, or a restarting database. Repeating is safe: the statement is a compare-and-set.
            if not attempt.saver.lease.valid():
                log.error("run not settled: %s; its lease will expire", problem, extra=_extra(attempt))
                attempt.journal.close(Ending.GONE_ON)
                return Settled(owned=False)
            await asyncio.sleep(SETTLE_RETRY_SECONDS)
    attempt.settled = settled.status if settled.owned else None
    if attempt.settled == RunStatus.PENDING.value:
        shop.hints.give()
    if settled.error is not None:
        # A guard has ended the run; its row and the log say so already, readers here have to hear it too.
        attempt.journal.append("error", settled.error)
    over = settled.owned and settled.status != RunStatus.PENDING.value
    if over and (facts.status == "busy" or settled.error is not None):
        # Before its readers hear of the end: they ask for the thread next.
        await _refresh(attempt, shop)
    attempt.journal.close(Ending.SETTLED if over else Ending.GONE_ON)
    return settled


async def _refresh(attempt: Attempt, shop: Shop) -> None:
    try:
        await shop.refresh_thread(attempt.run.thread_id)
    except DATABASE_TROUBLE as problem:
        log.warning("thread not read again: %s; the next sweep does", problem, extra=_extra(attempt))


async def _write(attempt: Attempt, shop: Shop, facts: ThreadFacts) -> Settled:
    run, outcome, saver = attempt.run, attempt.outcome, attempt.saver
    events = saver.take_events()
    whose: dict[str, Any] = {
        "run_id": run.run_id,
        "thread_id": run.thread_id,
        "fence": run.fence,
        "events": events,
        "checkpoint_id": saver.head_id,
    }
    if outcome in (Outcome.DRAINED, Outcome.CUT):
        return await settlement.hand_over(
            shop.database,
            **whose,
            stopped=Stopped.DRAINED if outcome is Outcome.DRAINED else Stopped.CUT,
            reason=shop.drain_reason,
            max_handovers=shop.max_handovers,
            nodes=pending_names(saver),
        )
    statuses = {
        Outcome.FINISHED: RunStatus.SUCCESS,
        Outcome.FAILED: RunStatus.ERROR,
        Outcome.CANCELLED: RunStatus.INTERRUPTED,
    }
    assert outcome is not None
    wish = attempt.cancel_wish
    return await settlement.end(
        shop.database,
        **whose,
        status=statuses[outcome],
        facts=facts,
        last_event=str(attempt.journal.last) if attempt.journal.last.seq else None,
        reason=wish.reason if wish else None,
        rollback=wish is not None and wish.action is CancelAction.ROLLBACK,
    )


def pending_names(saver: RunSaver) -> str:
    """The nodes that the run was about to start or in, for a person to read."""
    return ", ".join(sorted(start.pending_nodes(saver.head))) if saver.head is not None else ""


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
