"""Drives one attempt: opens the graph and streams it into the journal."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack, aclosing, suppress
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphDrained, GraphRecursionError
from langgraph.runtime import RunControl
from langgraph.types import Command, StateSnapshot

from slackwater.errors import LeaseLost
from slackwater.graphs.context import fitted, ids_of
from slackwater.graphs.topology import subgraph_at
from slackwater.kit import json_format
from slackwater.kit.reserved import INTERRUPT
from slackwater.runtime.events.deltas import DELTA_OF, PARTIAL
from slackwater.runtime.events.journal import BATCH_BYTES, BEGINNING, event_of
from slackwater.runtime.events.packs import DELTA, PACK
from slackwater.runtime.events.partials import Partials
from slackwater.runtime.events.replay import Published
from slackwater.runtime.execution import message_ids, outcome, start
from slackwater.runtime.execution.attempt import Attempt
from slackwater.runtime.execution.bodies import current_bodies
from slackwater.runtime.execution.callbacks import Last
from slackwater.runtime.execution.checkpointer import RunSaver
from slackwater.runtime.execution.control import is_drain
from slackwater.runtime.execution.encoding import PROTOCOL_V2, Encoder, StreamPart, StreamPlan
from slackwater.runtime.execution.node_threads import current_run
from slackwater.runtime.execution.options import durability, run_config
from slackwater.runtime.execution.outcome import CannotBegin
from slackwater.runtime.execution.pace import Pace
from slackwater.runtime.execution.shop import Shop
from slackwater.runtime.execution.start import Begin, Impossible, Level, Opening, Over
from slackwater.runtime.fenced.settlement import Settled
from slackwater.runtime.fenced.writer import Refused, Writer
from slackwater.runtime.queue.states import OUTCOME_OF, Outcome, StopWish

if TYPE_CHECKING:
    from slackwater.graphs.registry import Graph
    from slackwater.postgres.pool import Database


BODIES_SECONDS = 5.0
"""What a node has begun and left behind gets so long to end, if no drain bounds it."""

THREAD_SECONDS = 0.5
"""A thread whose result is known counts for a moment longer."""

log = logging.getLogger(__name__)

REST_SECONDS = 10.0
"""How long a graph may take to say again where it stands."""


async def execute(attempt: Attempt, shop: Shop) -> Settled:
    """Run the attempt to its end, whatever that is. Never raises for what the graph does.

    This is the one place where the cancellation of a run is handled: `attempt.wish` says what it means.
    """
    attempt.begin()
    current_run.set(attempt.run.run_id)
    run, error, facts = attempt.run, None, None
    encoder: Encoder | None = None
    config = run_config(attempt)
    async with AsyncExitStack() as opened:
        try:
            graph = await opened.enter_async_context(
                shop.graphs.open(
                    run.graph_id,
                    config=config,
                    access="threads.create_run",
                    checkpointer=attempt.saver,
                    store=shop.store_of(run.owner, attempt.lease),
                    context=run.kwargs.get("context"),
                    scope=attempt.scope,
                )
            )
            try:
                if attempt.wish is not None:
                    raise asyncio.CancelledError  # somebody wanted it stopped before its first turn
                opening = await _open(attempt, graph, config)
                encoder = await _encoder(attempt, shop, opening)
                if (run.attempt == 1 and run.stopped is None) or run.repeats:
                    attempt.writer.publish(
                        "metadata", json_format.dumps({"run_id": str(run.run_id), "attempt": run.attempt})
                    )
                if isinstance(opening, Begin):
                    current_bodies.set(attempt.bodies)
                    await _stream(attempt, graph, config, opening, encoder)
                else:
                    await _say_the_rest(attempt, graph, config, opening, encoder)
                    if isinstance(opening, Impossible):
                        raise CannotBegin(opening.error, opening.message)
                attempt.end(Outcome.FINISHED)
            except BaseException as problem:
                error = problem
                attempt.end(await _with_its_bodies(attempt, shop, problem))
            if attempt.given_up:
                return Settled(owned=False)
            if attempt.outcome not in (Outcome.LOST, Outcome.DRAINED, Outcome.CUT):
                facts = await outcome.facts_of(attempt, graph, config, encoder, error)
        except BaseException as problem:
            # The graph's own factory failed, or the state could not be read: the run's outcome, if any, stands.
            if attempt.outcome is None or not isinstance(problem, Exception):
                attempt.end(attempt.outcome or _judge(attempt, problem))
                error = error or problem
            if attempt.given_up:
                return Settled(owned=False)
        # Before what the factory holds is closed: that is user code, and may take for ever.
        return await outcome.conclude(attempt, shop, facts, error)


def _judge(attempt: Attempt, problem: BaseException) -> Outcome:
    """What an exception out of the graph means. Decided at once: nothing may come between it and the outcome."""
    if isinstance(problem, asyncio.CancelledError):
        attempt.tails += [tail for tail in problem.args if isinstance(tail, asyncio.Task)]
    if attempt.lease.forgotten and not attempt.lease.lost:
        return Outcome.CUT
    if attempt.wish is StopWish.LEASE_LOST or attempt.lease.lost or isinstance(problem, LeaseLost):
        return Outcome.LOST
    # Whatever came out after the cancellation: many a library turns one into an error of its own.
    if attempt.wish is not None:
        return OUTCOME_OF[attempt.wish]
    refused = attempt.saver.database.gate.is_shut or isinstance(attempt.writer.failure, Refused)
    if isinstance(problem, Refused) or (refused and isinstance(problem, asyncio.CancelledError)):
        return Outcome.CUT
    if isinstance(problem, GraphDrained):
        return Outcome.DRAINED
    if is_drain(problem):
        return Outcome.CUT  # a task group cancels what stands beside the first graph that stops
    task = asyncio.current_task()
    if isinstance(problem, asyncio.CancelledError) and task is not None and task.cancelling():
        return Outcome.CUT
    return Outcome.FAILED  # a node that raises CancelledError though nobody has cancelled it fails, too


async def _with_its_bodies(attempt: Attempt, shop: Shop, problem: BaseException) -> Outcome:
    """What an exception out of the graph means, when nothing that its nodes have started runs here any more.

    A run at a boundary of its own is at one. Inside a node the first of several graphs that stops ends the run, for
    LangGraph; then those beside it, and whatever else the node has begun, are cut.
    """
    ended = _judge(attempt, problem)
    if ended not in (Outcome.DRAINED, Outcome.CUT):
        attempt.end(ended)  # decided: what comes now does not change it
        await _end_bodies(attempt, everything=False, bounded=True)
        return ended
    if ended is Outcome.DRAINED and attempt.bodies.at_boundary:
        return ended
    cut = await _end_bodies(attempt, everything=True, bounded=not attempt.drain_reason)
    ended = _judge(attempt, problem)
    if ended is Outcome.DRAINED and (cut or not await shop.threads.idle(attempt.run.run_id, THREAD_SECONDS)):
        return Outcome.CUT
    return ended


async def _end_bodies(attempt: Attempt, *, everything: bool, bounded: bool) -> bool:
    """Cancel, once each, what the attempt's nodes have left open, and wait for it; whether there was anything to cut.

    `everything`: not only graphs. One that stores where it has stopped is left to do so, until the drain insists.
    `bounded`: there is no drain whose budget bounds it.
    """
    bodies, told, insisted = attempt.bodies, set[asyncio.Task[Any]](), False
    cut, deadline = bodies.cut, time.monotonic() + BODIES_SECONDS
    while left := bodies.open if everything else bodies.open_graphs:
        for task in bodies.outermost(left) - told:
            if insisted or not bodies.stops(task):
                told.add(task)
                cut = True
                task.cancel()
        timeout = max(0.0, deadline - time.monotonic()) if bounded else None
        try:
            done, _ = await asyncio.wait(left, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            insisted = True
        else:
            if not done:
                return True  # what ignores its cancellation is fenced
    return cut


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
    configurable = (run.kwargs.get("config") or {}).get("configurable") or {}
    plan = StreamPlan.of(
        run.kwargs.get("stream_mode"),
        subgraphs=bool(run.kwargs.get("subgraphs")),
        blocks=bool(configurable.get(PROTOCOL_V2)),
    )
    resumed = not isinstance(opening, Begin) or opening.resumed
    published = None
    if resumed:
        # What LangGraph says again was heard already, but for what a crash has left unsaid.
        told_of = _PUBLISHED if _BOUNDARIES & {*plan.public} else _RECENT
        told = await attempt.writer.retrying(lambda: _told(shop.database, run.run_id, told_of))
        published = Published.of(told, clean=not run.repeats)
    return Encoder(plan, run_id=str(run.run_id), resumed=resumed, published=published)


async def _told(database: Database, run_id: UUID, statement: str) -> list[tuple[str, bytes]]:
    """Name and data of what the run has told, but for what LangGraph does not repeat."""
    found = [event_of(row) for row in await database.fetch(statement, {"run_id": run_id}) if row["data"]]
    rows = [row for row in found if row.name.removeprefix(PACK) not in (PARTIAL, DELTA)]
    told = Partials(database, lambda: True).restored(rows, run_id, BATCH_BYTES, BEGINNING)
    async with aclosing(told) as batches:
        return [(event.name, event.data) async for batch in batches for event in batch]


_BOUNDARIES = {"values", "checkpoints"}
"""The events that each superstep of the root graph ends with, for readers who asked for them."""

_PUBLISHED = f"""
with since as (
  select fence, seq from slackwater.run_events where run_id = %(run_id)s
    and event in ('values', '{DELTA_OF}values', 'checkpoints')
  order by fence desc, seq desc offset 5 limit 1)
select fence, seq, event, data from slackwater.run_events where run_id = %(run_id)s
  and (fence, seq) >= (coalesce((select fence from since), 0), coalesce((select seq from since), 0))
order by fence, seq"""
"""The last three boundaries, of two events each: `async` durability loses two supersteps at most."""

FIRST_EVENTS, RECENT_EVENTS = 100, 10_000

_SAID = f"""select fence, seq, event, case when event like any('{{custom%%,{PACK}custom%%}}') then '' else data end as data
  from slackwater.run_events where run_id = %(run_id)s"""

_RECENT = f"""
select fence, seq, event, data from (
  ({_SAID} order by fence, seq limit {FIRST_EVENTS})
  union
  ({_SAID} order by fence desc, seq desc limit {RECENT_EVENTS})) told
order by fence, seq"""
"""Where nothing tells supersteps apart: more than two of them say, and not all that a long run has said; and the beginning,
which opens what is still open (`events`). LangGraph repeats nothing that is `custom`."""


async def _stream(
    attempt: Attempt, graph: Graph, config: RunnableConfig, begin: Begin, encoder: Encoder
) -> None:
    """Drive the graph and publish what it streams."""
    saver, writer, kwargs = attempt.saver, attempt.writer, attempt.run.kwargs
    before, after = kwargs.get("interrupt_before"), kwargs.get("interrupt_after")
    options: dict[str, Any] = {
        "stream_mode": encoder.modes,
        "subgraphs": encoder.plan.subgraphs,
        "durability": durability(kwargs, graph),
        "control": attempt.control,
        "context": fitted(graph.context_schema, kwargs.get("context"), ids_of(config)),
        "interrupt_before": before,
        "interrupt_after": after,
    }
    # With `sync` LangGraph waits by itself, and with `exit` there is nothing to wait for.
    bounded = options["durability"] == "async"
    saver.stores_at_exit = options["durability"] == "exit"
    saver.runs_ahead = bounded
    ours: list[BaseCallbackHandler] = []
    if bounded and any(True for _ in graph.get_subgraphs()):
        ours.append(Pace(saver.owning_loop, writer))
    last = asyncio.timeout(None)
    if (graph.config or {}).get("callbacks"):
        ours.append(Last(last))
    if ours:
        config["callbacks"] = [*ours]
    # aclosing: a cancellation between two chunks must not leave the generator to the garbage collector.
    drive = graph.astream_events if encoder.plan.use_events else graph.astream
    if encoder.plan.use_events:
        options["version"] = "v2"
    try:
        async with last, aclosing(cast("Any", drive)(begin.input, config, **options)) as said:
            async for item in said:
                if encoder.plan.use_events:
                    await message_ids.given(item)
                    _publish(writer, encoder.feed_event(item))
                else:
                    _publish(writer, encoder.feed(*encoder.plan.chunk(item)))
                if begin.last_from is not None and encoder.step == begin.last_from:
                    attempt.control.request_drain("the superstep that runs now is the last one allowed")
                await _before_more(writer, bounded)
    except GraphDrained:
        if not _out_of_steps(begin, encoder):
            raise
    except TimeoutError:
        if not last.expired():
            raise
        log.warning(
            "the callbacks of graph '%s' do not finish: its run ends without them",
            attempt.run.graph_id,
            extra={"event": "graph.callbacks_left", "run_id": str(attempt.run.run_id)},
        )
    if _out_of_steps(begin, encoder):
        raise GraphRecursionError(start.out_of_steps(start.recursion_limit(kwargs, graph)))


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
    if attempt.writer.head is None:
        return
    nothing_more = RunControl()
    nothing_more.request_drain("over")  # a graph that begins like this says where it stands, and runs no node
    options: dict[str, Any] = {
        "stream_mode": encoder.modes,
        "subgraphs": encoder.plan.subgraphs,
        "durability": "async",
        "control": nothing_more,
        "context": fitted(graph.context_schema, attempt.run.kwargs.get("context"), ids_of(config)),
    }
    # Not for ever: its callbacks are user code, and what the run has come to is known.
    with suppress(GraphDrained, TimeoutError):
        async with (
            asyncio.timeout(REST_SECONDS),
            aclosing(cast("Any", graph.astream)(None, config, **options)) as said,
        ):
            async for item in said:
                _publish(attempt.writer, encoder.feed(*encoder.plan.chunk(item)))
    if isinstance(over, Over) and over.held:
        _publish(attempt.writer, encoder.feed((), "updates", {INTERRUPT: ()}))


def _publish(writer: Writer, events: Iterable[StreamPart]) -> None:
    for event in events:
        writer.publish(event.name, event.data, event.series)


async def _before_more(writer: Writer, bounded: bool) -> None:
    """What has to hold before the graph may go on; between two supersteps it always asks."""
    if bounded:
        await writer.breathe()
    lease = writer.lease
    if lease.over or (not lease.valid() and not await lease.holds()):
        # A process that was stopped wakes up in the middle of a node, or of the wait above: no further one may begin
        # before it is known whose run it is.
        raise LeaseLost
