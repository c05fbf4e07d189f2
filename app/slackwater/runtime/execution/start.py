"""How an attempt begins. Each rule for a later attempt prevents a lost or a repeated superstep.

A later attempt passes `None` if and only if the run's input has been stored. That the thread has a checkpoint is not
enough, because of `Command(update, goto)`; and passing the input twice applies it twice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

from langgraph.checkpoint.base import Checkpoint, CheckpointTuple, PendingWrite
from langgraph.checkpoint.serde.types import TASKS
from langgraph.errors import ErrorCode, GraphRecursionError, create_error_message
from langgraph.pregel import Pregel
from langgraph.pregel._algo import should_interrupt
from langgraph.pregel._utils import is_xxh3_128_hexdigest
from langgraph.types import All, Command, PregelTask, Send

from slackwater.runtime.fenced.group import NULL_TASK_ID
from slackwater.runtime.queue.claims import ClaimedRun

BRANCH = "branch:to:"
"""Prefix of the channels by which LangGraph triggers a node."""

JOIN = "join:"
"""Prefix of the channels that trigger a node when several others have finished: `join:left+right:both`."""

CHECKPOINT_KEYS = ("checkpoint_id", "checkpoint_ns", "checkpoint_map")


@dataclass(frozen=True, slots=True)
class Begin:
    """Start the graph with `input`."""

    input: Any
    resumed: bool = False
    last_from: int | None = None
    """The step of the checkpoint after which the recursion limit is exceeded; None: LangGraph counts by itself.

    LangGraph counts from where an attempt begins. A lower limit cannot be passed, as it would apply to subgraphs too.
    """


@dataclass(frozen=True, slots=True)
class AlreadyFinished:
    """Nothing is left to do: the last attempt reached the end, or a static breakpoint, without settling the run."""

    held: bool
    """Stopped by a breakpoint."""


@dataclass(frozen=True, slots=True)
class CannotResume:
    """The run cannot continue; `error` and `message` say why."""

    error: str
    message: str


StartPlan = Begin | AlreadyFinished | CannotResume


@dataclass(frozen=True, slots=True)
class Level:
    """The state of a graph that a later attempt resumes: the root graph, or one inside a task of another."""

    graph: Pregel[Any, Any, Any, Any]
    head: CheckpointTuple
    parent: CheckpointTuple | None
    tasks: Sequence[PregelTask]
    """The tasks of the head, with or without results: a task whose writes wait for its siblings is not finished."""

    def missing(self) -> set[str]:
        """The nodes to execute next that the loaded graph does not have."""
        return pending_nodes(self.head.checkpoint, self.head.pending_writes or ()) - set(self.graph.nodes)

    def held_before(self, nodes: All | Sequence[str]) -> bool:
        """Whether a static breakpoint before one of `nodes` holds here."""
        return _holds(self.head.checkpoint, nodes, [task.name for task in self.tasks])

    def held_after(self, nodes: All | Sequence[str]) -> bool:
        """Whether a static breakpoint after one of `nodes` holds here."""
        before = None if self.parent is None else self.parent.checkpoint
        return _holds(self.head.checkpoint, nodes, nodes_that_ran(before, self.head.checkpoint))

    @property
    def held_inside(self) -> bool:
        """Whether a breakpoint holds that this graph, inside another, was compiled with."""
        return bool(self.tasks) and (
            self.held_before(self.graph.interrupt_before_nodes)
            or self.held_after(self.graph.interrupt_after_nodes)
        )


def first_input(kwargs: Mapping[str, Any]) -> Any:
    """The input with which the request starts the graph."""
    command = kwargs.get("command")
    return command_of(command) if command else kwargs.get("input")


def brings_input(kwargs: Mapping[str, Any]) -> bool:
    """Whether the request gives the graph something new, and does not only resume it."""
    command = kwargs.get("command")
    if command:
        return bool(command.get("update") or command.get("goto"))
    return kwargs.get("input") is not None


def command_of(command: Mapping[str, Any]) -> Command[Any]:
    """A `Command` from the SDK's JSON."""
    goto = command.get("goto")
    targets = goto if isinstance(goto, list) else [goto] if goto else []
    update = command.get("update")
    if isinstance(update, list):
        update = [tuple(pair) for pair in update]
    return Command(
        resume=command.get("resume"),
        update=update,
        goto=[Send(t["node"], t.get("input")) if isinstance(t, Mapping) else t for t in targets],
    )


def is_one_answer(kwargs: Mapping[str, Any]) -> bool:
    """Whether the request only answers the interrupt that its thread waits for."""
    command = kwargs.get("command") or {}
    resume = command.get("resume")
    if resume is None or command.get("update") or command.get("goto"):
        return False
    return not (isinstance(resume, dict) and resume and all(map(is_xxh3_128_hexdigest, resume)))


def plan_resume(run: ClaimedRun, levels: Sequence[Level]) -> StartPlan:
    """Decide how to resume a run whose input is stored.

    `levels` are the states of its graphs: the root graph first, then those inside its unfinished tasks; empty if the thread
    has no checkpoint any more.
    """
    if not levels:
        return CannotResume(
            "CheckpointMissing", f"The checkpoints of run {run.run_id} were deleted while it ran."
        )
    missing = sorted(set[str]().union(*(level.missing() for level in levels)))
    if missing:
        return CannotResume(
            "NodeMissing",
            f"The run was to resume at node {', '.join(map(repr, missing))}, which graph {run.graph_id!r} no longer "
            "has. Deploy a version that still has it, or start a new run.",
        )
    root, *inner = levels
    own = _own(root, run)
    before, after = breakpoints(run.kwargs, root.graph)
    limit = recursion_limit(run.kwargs, root.graph)
    last_from = None if limit is None or run.input_step is None else run.input_step + limit
    # In LangGraph's own order. Resuming with `None` would skip a breakpoint, and the person who was to be asked.
    if own and root.held_after(after):
        return AlreadyFinished(held=True)
    if last_from is not None and root.head.metadata["step"] > last_from:
        return CannotResume(GraphRecursionError.__name__, out_of_steps(limit))
    if own and not root.tasks:
        return AlreadyFinished(held=False)
    if (own and root.held_before(before)) or any(_own(level, run) and level.held_inside for level in inner):
        return AlreadyFinished(held=True)
    return Begin(None, resumed=True, last_from=last_from)


def _own(level: Level, run: ClaimedRun) -> bool:
    return str(level.head.metadata.get("run_id")) == str(run.run_id)


def recursion_limit(kwargs: Mapping[str, Any], graph: Pregel[Any, Any, Any, Any]) -> int | None:
    """The limit of the request, or else of the graph; it applies to the run, not to one attempt."""
    limit = kwargs.get("config", {}).get("recursion_limit") or (graph.config or {}).get("recursion_limit")
    return limit if isinstance(limit, int) else None


def out_of_steps(limit: int | None) -> str:
    """LangGraph's own message when the limit is reached."""
    return create_error_message(
        message=f"Recursion limit of {limit} reached without hitting a stop condition. You can increase the limit by "
        "setting the `recursion_limit` config key.",
        error_code=ErrorCode.GRAPH_RECURSION_LIMIT,
    )


def breakpoints(
    kwargs: Mapping[str, Any], graph: Pregel[Any, Any, Any, Any]
) -> tuple[All | Sequence[str], All | Sequence[str]]:
    """The static breakpoints of a run: the request's, else the graph's own."""
    return (
        cast("All | Sequence[str]", kwargs.get("interrupt_before") or graph.interrupt_before_nodes),
        cast("All | Sequence[str]", kwargs.get("interrupt_after") or graph.interrupt_after_nodes),
    )


def pending_nodes(head: Checkpoint, pending_writes: Sequence[PendingWrite] = ()) -> set[str]:
    """The nodes that the head's channels trigger, whether or not the loaded graph has them."""
    values = head["channel_values"]
    names = {channel.removeprefix(BRANCH) for channel in values if channel.startswith(BRANCH)}
    names |= {send.node for send in values.get(TASKS) or () if isinstance(send, Send)}
    for channel, seen in values.items():
        if channel.startswith(JOIN) and isinstance(seen, set):
            waits_for, _, name = channel.removeprefix(JOIN).rpartition(":")
            if set(waits_for.split("+")) <= seen:
                names.add(name)
    for task_id, channel, value in pending_writes:
        if task_id == NULL_TASK_ID:
            if channel.startswith(BRANCH):
                names.add(channel.removeprefix(BRANCH))
            elif channel == TASKS and isinstance(value, Send):
                names.add(value.node)
    return names


def nodes_that_ran(parent: Checkpoint | None, head: Checkpoint) -> set[str]:
    """The nodes that ran between two checkpoints, or before the first.

    With durability `exit` this spans several supersteps. But a breakpoint after one of them would have stopped the run
    there, so only one after the last can apply.
    """
    before = parent["versions_seen"] if parent is not None else {}
    sends = (parent["channel_values"].get(TASKS) or ()) if parent is not None else ()
    ran = {name for name, seen in head["versions_seen"].items() if seen != before.get(name)}
    ran |= {send.node for send in sends if isinstance(send, Send)}
    return {name for name in ran if not name.startswith("__")}


def _holds(checkpoint: Checkpoint, nodes: All | Sequence[str], names: Collection[str]) -> bool:
    if not nodes:
        return False
    tasks = [SimpleNamespace(name=name, config=None) for name in names]
    return bool(should_interrupt(checkpoint, nodes, cast("Any", tasks)))
