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
from slackwater.runtime.execution.callbacks import Last
from slackwater.runtime.execution.checkpointer import RunSaver
from slackwater.runtime.execution.control import is_drain
from slackwater.runtime.execution.encoding import PROTOCOL_V2, Encoder, StreamPart, StreamPlan
from slackwater.runtime.execution.host import AttemptHost
from slackwater.runtime.execution.node_files import current_files
from slackwater.runtime.execution.node_mcp import current_mcp
from slackwater.runtime.execution.node_memory import current_memory
from slackwater.runtime.execution.node_skills import current_skills
from slackwater.runtime.execution.node_tasks import current_node_tasks
from slackwater.runtime.execution.node_threads import current_run
from slackwater.runtime.execution.options import durability, run_config
from slackwater.runtime.execution.outcome import CannotBegin
from slackwater.runtime.execution.pace import Pace
from slackwater.runtime.execution.recording import MessageRecorder, SaidBefore
from slackwater.runtime.execution.start import AlreadyFinished, Begin, CannotResume, Level, StartPlan
from slackwater.runtime.fenced.settlement import Settled
from slackwater.runtime.fenced.writer import Refused, Writer
from slackwater.runtime.queue.states import OUTCOME_OF, Outcome, StopWish

if TYPE_CHECKING:
    from slackwater.graphs.registry import Graph
    from slackwater.postgres.pool import Database


NODE_TASKS_SECONDS = 5.0
"""How long tasks that nodes have left behind may take to end, unless a drain sets the limit."""

THREAD_SECONDS = 0.5
"""How long a thread whose result is known may still count as busy."""

log = logging.getLogger(__name__)

REPLAY_SECONDS = 10.0
"""How long a graph may take to stream its current state again."""


async def execute(attempt: Attempt, host: AttemptHost) -> Settled:
    """Run the attempt to its end. Never raises an error of the graph.

    This is the one place where the cancellation of a run is handled: `attempt.wish` says what it means.
    """
    attempt.begin()
    current_run.set(attempt.run.run_id)
    host.own_calls.act_for(attempt)
    current_files.set(attempt.saver.files)
    run, error, facts = attempt.run, None, None
    if host.node_memory is not None:
        loop = attempt.saver.owning_loop
        current_memory.set(host.node_memory.of(run.owner, run.thread_id, attempt.lease, loop))
    if host.node_skills is not None:
        current_skills.set(host.node_skills.of(run.owner, attempt.lease, attempt.saver.owning_loop))
    if host.node_mcp is not None:
        current_mcp.set(host.node_mcp.of(run.owner, attempt.lease, attempt.saver.owning_loop))
    encoder: Encoder | None = None
    config = run_config(attempt)
    async with AsyncExitStack() as opened:
        try:
            if attempt.saver.files is not None:
                await attempt.saver.files.begin()
            graph = await opened.enter_async_context(
                host.graphs.open(
                    run.graph_id,
                    owner=run.owner,
                    config=config,
                    access="threads.create_run",
                    checkpointer=attempt.saver,
                    store=host.store_of(run.owner, attempt.lease),
                    context=run.kwargs.get("context"),
                    scope=attempt.scope,
                )
            )
            try:
                if attempt.wish is not None:
                    raise asyncio.CancelledError  # stopped before it could start
                opening = await _open(attempt, graph, config)
                encoder = await _encoder(attempt, host, opening)
                if (run.attempt == 1 and run.stopped is None) or run.repeats:
                    attempt.writer.publish(
                        "metadata", json_format.dumps({"run_id": str(run.run_id), "attempt": run.attempt})
                    )
                if isinstance(opening, Begin):
                    current_node_tasks.set(attempt.node_tasks)
                    await _stream(attempt, graph, config, opening, encoder, await _recorder(attempt, host))
                    await attempt.saver.store_files()
                else:
                    await _publish_missing_events(attempt, graph, config, opening, encoder)
                    if isinstance(opening, CannotResume):
                        raise CannotBegin(opening.error, opening.message)
                attempt.end(Outcome.FINISHED)
            except BaseException as problem:
                error = problem
                attempt.end(await _outcome_after_node_tasks(attempt, host, problem))
            if attempt.outcome is Outcome.FAILED:
                await _store_what_is_left(attempt)
            elif attempt.outcome is Outcome.CUT and not attempt.lease.forgotten:
                await _store_results(attempt, host.cut_seconds)
            if attempt.given_up:
                return Settled(owned=False)
            if attempt.outcome not in (Outcome.LOST, Outcome.DRAINED, Outcome.CUT):
                facts = await outcome.facts_of(attempt, graph, config, encoder, error)
        except BaseException as problem:
            # The graph's factory failed, or the state could not be read. An outcome that is known stands.
            if attempt.outcome is None or not isinstance(problem, Exception):
                attempt.end(attempt.outcome or _outcome_of(attempt, problem))
                error = error or problem
            if attempt.given_up:
                return Settled(owned=False)
        # Before the factory's context manager exits: that is user code, and may take forever.
        return await outcome.conclude(attempt, host, facts, error)


def _outcome_of(attempt: Attempt, problem: BaseException) -> Outcome:
    """The outcome that an exception from the graph means. Decided without an await, so that nothing can intervene."""
    if isinstance(problem, asyncio.CancelledError):
        attempt.leftovers += [task for task in problem.args if isinstance(task, asyncio.Task)]
    if attempt.lease.forgotten and not attempt.lease.lost:
        return Outcome.CUT
    if attempt.wish is StopWish.LEASE_LOST or attempt.lease.lost or isinstance(problem, LeaseLost):
        return Outcome.LOST
    # Whatever was raised after the cancellation: libraries turn it into errors of their own.
    if attempt.wish is not None:
        return OUTCOME_OF[attempt.wish]
    refused = attempt.saver.database.gate.is_shut or isinstance(attempt.writer.failure, Refused)
    if isinstance(problem, Refused) or (refused and isinstance(problem, asyncio.CancelledError)):
        return Outcome.CUT
    if isinstance(problem, GraphDrained):
        return Outcome.DRAINED
    if is_drain(problem):
        return Outcome.CUT  # a task group cancels the siblings of the first graph that stops
    task = asyncio.current_task()
    if isinstance(problem, asyncio.CancelledError) and task is not None and task.cancelling():
        return Outcome.CUT
    return Outcome.FAILED  # a node that raises CancelledError without having been cancelled has failed


async def _outcome_after_node_tasks(attempt: Attempt, host: AttemptHost, problem: BaseException) -> Outcome:
    """The outcome that an exception from the graph means, once all tasks of its nodes have ended.

    A root graph that stopped is at its boundary. Inside a node, the first of several graphs that stops ends the run for
    LangGraph; its siblings, and whatever else the node has started, are then cut.
    """
    ended = _outcome_of(attempt, problem)
    if ended not in (Outcome.DRAINED, Outcome.CUT):
        attempt.end(ended)  # what happens from now on does not change it
        await _cancel_node_tasks(attempt, everything=False, bounded=True)
        return ended
    if ended is Outcome.DRAINED and attempt.node_tasks.at_boundary:
        return ended
    cut = await _cancel_node_tasks(attempt, everything=True, bounded=not attempt.drain_reason)
    ended = _outcome_of(attempt, problem)
    if ended is Outcome.DRAINED and (cut or not await host.threads.idle(attempt.run.run_id, THREAD_SECONDS)):
        return Outcome.CUT
    return ended


async def _cancel_node_tasks(attempt: Attempt, *, everything: bool, bounded: bool) -> bool:
    """Cancel the open tasks of the attempt's nodes, once each, and wait for them. Returns whether anything was cut.

    `everything`: not only graphs. A graph that is storing its checkpoint may finish, until the drain insists.
    `bounded`: limit the time, as there is no drain whose budget limits it.
    """
    node_tasks, cancelled, insisted = attempt.node_tasks, set[asyncio.Task[Any]](), False
    cut, deadline = node_tasks.cut, time.monotonic() + NODE_TASKS_SECONDS
    while left := node_tasks.open if everything else node_tasks.open_graphs:
        for task in node_tasks.outermost(left) - cancelled:
            if insisted or not node_tasks.stops(task):
                cancelled.add(task)
                cut = True
                task.cancel()
        timeout = max(0.0, deadline - time.monotonic()) if bounded else None
        try:
            done, _ = await asyncio.wait(left, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            insisted = True
        else:
            if not done:
                return True  # a task that ignores its cancellation is fenced
    return cut


async def _store_what_is_left(attempt: Attempt) -> None:
    """The run has failed and will not go on: what its nodes have written may say why. If it cannot be stored, it is not."""
    try:
        await attempt.saver.store_files()
    except Exception as error:
        log.warning(
            "the files of a run that failed are not stored: %s",
            error,
            extra={"event": "files.lost", "run_id": str(attempt.run.run_id)},
        )


async def _store_results(attempt: Attempt, seconds: float) -> None:
    """The superstep was cut: what has finished of it need not run again, if its files can be stored in time."""
    try:
        async with asyncio.timeout(seconds):
            await attempt.saver.store_results()
    except Exception as error:
        log.warning(
            "the files of a superstep that was cut are not stored, and all of it runs again: %r",
            error,
            extra={"event": "files.lost", "run_id": str(attempt.run.run_id)},
        )


async def _open(attempt: Attempt, graph: Graph, config: RunnableConfig) -> StartPlan:
    run = attempt.run
    if not run.input_applied:
        kwargs = run.kwargs
        given = start.first_input(kwargs)
        if isinstance(given, Command) and isinstance(given.resume, dict) and run.stopped is not None:
            given = await _unanswered(attempt, given)
        return Begin(given)
    # A fork resumes from the run's own last checkpoint, not from where it forked.
    for key in start.CHECKPOINT_KEYS:
        config["configurable"].pop(key, None)
    attempt.saver.continues = True
    return start.plan_resume(run, await _levels(attempt.saver, graph, config))


async def _levels(saver: RunSaver, graph: Graph, config: RunnableConfig) -> list[Level]:
    """The states of the graph and of the graphs inside its tasks."""
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
    """`command` without answers that a task has already stored: LangGraph would append them again."""
    answered = await attempt.saver.answered_interrupts()
    left = {
        key: value for key, value in cast("dict[str, Any]", command.resume).items() if key not in answered
    }
    if left or command.update is not None or command.goto:
        return Command(resume=left or None, update=command.update, goto=command.goto)
    return None


async def _encoder(attempt: Attempt, host: AttemptHost, opening: StartPlan) -> Encoder:
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
        # LangGraph streams again what was published before, except what a crash prevented.
        statement = _PUBLISHED if _BOUNDARIES & {*plan.public} else _RECENT
        events = await attempt.writer.retrying(
            lambda: _published_events(host.database, run.run_id, statement)
        )
        published = Published.of(events, clean=not run.repeats)
    return Encoder(plan, run_id=str(run.run_id), resumed=resumed, published=published)


async def _published_events(database: Database, run_id: UUID, statement: str) -> list[tuple[str, bytes]]:
    """Name and data of the events that the run has published, except those that LangGraph does not repeat."""
    found = [event_of(row) for row in await database.fetch(statement, {"run_id": run_id}) if row["data"]]
    rows = [row for row in found if row.name.removeprefix(PACK) not in (PARTIAL, DELTA)]
    restored = Partials(database, lambda: True).restored(rows, run_id, BATCH_BYTES, BEGINNING)
    async with aclosing(restored) as batches:
        return [(event.name, event.data) async for batch in batches for event in batch]


async def _recorder(attempt: Attempt, host: AttemptHost) -> MessageRecorder | None:
    """What records the run's messages and token counts, if they are recorded."""
    run, records = attempt.run, attempt.writer.records
    if records is None:
        return None
    said = SaidBefore()
    if run.attempt > 1 or run.stopped is not None:
        rows = await attempt.writer.retrying(
            lambda: host.database.fetch(_SAID_BEFORE, {"run_id": run.run_id})
        )
        calls = frozenset((row["task"], row["place"]) for row in rows if row["task"] is not None)
        said = SaidBefore(any(row["human"] for row in rows), calls)
    return MessageRecorder(
        records, begins=not run.input_applied, expects_human=start.brings_input(run.kwargs), said=said
    )


_SAID_BEFORE = """
select task, place, false as human from slackwater.token_usage where run_id = %(run_id)s
union all
select null, null, true from slackwater.messages where run_id = %(run_id)s and event_type = 'llm.human.input'"""


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
  ({_SAID} order by fence desc, seq desc limit {RECENT_EVENTS})) picked
order by fence, seq"""
"""If nothing separates supersteps: more events than two supersteps have, but not all of a long run; and the first ones, which may start
what is still open (`events`). LangGraph does not repeat `custom` events."""


async def _stream(
    attempt: Attempt,
    graph: Graph,
    config: RunnableConfig,
    begin: Begin,
    encoder: Encoder,
    recorder: BaseCallbackHandler | None,
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
    # With `sync` LangGraph itself waits, and with `exit` there is nothing to wait for.
    bounded = options["durability"] == "async"
    saver.stores_at_exit = options["durability"] == "exit"
    saver.runs_ahead = bounded
    ours: list[BaseCallbackHandler] = []
    if bounded and any(True for _ in graph.get_subgraphs()):
        ours.append(Pace(saver))
    last = asyncio.timeout(None)
    if (graph.config or {}).get("callbacks"):
        ours.append(Last(last))
    if recorder is not None:
        ours.append(recorder)
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
                await _check_before_next(saver, bounded)
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


async def _publish_missing_events(
    attempt: Attempt,
    graph: Graph,
    config: RunnableConfig,
    over: AlreadyFinished | CannotResume,
    encoder: Encoder,
) -> None:
    """Publish what the last attempt has stored but not published, so that readers do not miss the last superstep."""
    if attempt.writer.head is None:
        return
    nothing_more = RunControl()
    nothing_more.request_drain("over")  # the graph then streams its state and executes no node
    options: dict[str, Any] = {
        "stream_mode": encoder.modes,
        "subgraphs": encoder.plan.subgraphs,
        "durability": "async",
        "control": nothing_more,
        "context": fitted(graph.context_schema, attempt.run.kwargs.get("context"), ids_of(config)),
    }
    # Bounded: callbacks are user code, and the outcome of the run is already known.
    with suppress(GraphDrained, TimeoutError):
        async with (
            asyncio.timeout(REPLAY_SECONDS),
            aclosing(cast("Any", graph.astream)(None, config, **options)) as said,
        ):
            async for item in said:
                _publish(attempt.writer, encoder.feed(*encoder.plan.chunk(item)))
    if isinstance(over, AlreadyFinished) and over.held:
        _publish(attempt.writer, encoder.feed((), "updates", {INTERRUPT: ()}))


def _publish(writer: Writer, events: Iterable[StreamPart]) -> None:
    for event in events:
        writer.publish(event.name, event.data, event.series)


async def _check_before_next(saver: RunSaver, bounded: bool) -> None:
    """Check what must hold before the graph continues; called at least between two supersteps."""
    writer = saver.writer
    if bounded:
        await writer.wait_for_capacity()
        if saver.files is not None and saver.files.used:
            await saver.files.settled()
    lease = writer.lease
    if lease.over or (not lease.valid() and not await lease.holds()):
        # A suspended process may wake up inside a node, or in the wait above: no further node may begin before it is
        # certain that the run is still ours.
        raise LeaseLost
