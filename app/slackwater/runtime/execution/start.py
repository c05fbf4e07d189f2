"""How an attempt begins. Each rule of a later start cost somebody a lost or doubled step.

A later start passes `None` if and only if the run's input has been stored: "the thread has a checkpoint"
is wrong for `Command(update, goto)`, and passing the input twice applies it twice.
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
"""Prefix of the channels with which LangGraph triggers a node."""

JOIN = "join:"
"""Prefix of the channels that trigger a node when several others have finished: `join:left+right:both`."""

CHECKPOINT_KEYS = ("checkpoint_id", "checkpoint_ns", "checkpoint_map")


@dataclass(frozen=True, slots=True)
class Begin:
    """Start the graph with `input`."""

    input: Any
    resumed: bool = False
    last_from: int | None = None
    """The step of the checkpoint after which only one more superstep may run, in vain; None: LangGraph counts by itself.

    It counts from where an attempt begins, and cannot be told to count on: a lower limit would be its subgraphs', too.
    """


@dataclass(frozen=True, slots=True)
class Over:
    """Nothing is left to do: the last attempt got to the end, or to a static breakpoint, but did not say so."""

    held: bool
    """By a breakpoint."""


@dataclass(frozen=True, slots=True)
class Impossible:
    """The run cannot go on; `error` and `message` say why."""

    error: str
    message: str


Opening = Begin | Over | Impossible


@dataclass(frozen=True, slots=True)
class Level:
    """Where a graph stands that a later start finds in the middle: the root graph, or one inside a task of another."""

    graph: Pregel[Any, Any, Any, Any]
    head: CheckpointTuple
    parent: CheckpointTuple | None
    tasks: Sequence[PregelTask]
    """The head's, with results or not: one whose writes wait for their siblings is not finished."""

    def missing(self) -> set[str]:
        """The nodes that come next and that the loaded graph does not have."""
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
    """What the request asked the graph to start with."""
    command = kwargs.get("command")
    return command_of(command) if command else kwargs.get("input")


def command_of(command: Mapping[str, Any]) -> Command[Any]:
    """The SDK's JSON of a `Command`."""
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
    """Whether the request does no more than answer the question that its thread waits with."""
    command = kwargs.get("command") or {}
    resume = command.get("resume")
    if resume is None or command.get("update") or command.get("goto"):
        return False
    return not (isinstance(resume, dict) and resume and all(map(is_xxh3_128_hexdigest, resume)))


def open_again(run: ClaimedRun, levels: Sequence[Level]) -> Opening:
    """Decide how a run whose input is stored goes on.

    `levels` is where its graphs stand: the root graph first, then those inside its unfinished tasks; empty when the
    thread has no checkpoint any more.
    """
    if not levels:
        return Impossible(
            "CheckpointMissing", f"The checkpoints of run {run.run_id} were deleted while it ran."
        )
    missing = sorted(set[str]().union(*(level.missing() for level in levels)))
    if missing:
        return Impossible(
            "NodeMissing",
            f"The run was to resume at node {', '.join(map(repr, missing))}, which graph {run.graph_id!r} no longer "
            "has. Deploy a version that still has it, or start a new run.",
        )
    root, *inner = levels
    own = _own(root, run)
    before, after = breakpoints(run.kwargs, root.graph)
    limit = recursion_limit(run.kwargs, root.graph)
    last_from = None if limit is None or run.input_step is None else run.input_step + limit
    # In the order in which LangGraph looks. `None` would step over a breakpoint, and over the person who was to be asked.
    if own and root.held_after(after):
        return Over(held=True)
    if last_from is not None and root.head.metadata["step"] > last_from:
        return Impossible(GraphRecursionError.__name__, out_of_steps(limit))
    if own and not root.tasks:
        return Over(held=False)
    if (own and root.held_before(before)) or any(_own(level, run) and level.held_inside for level in inner):
        return Over(held=True)
    return Begin(None, resumed=True, last_from=last_from)


def _own(level: Level, run: ClaimedRun) -> bool:
    return str(level.head.metadata.get("run_id")) == str(run.run_id)


def recursion_limit(kwargs: Mapping[str, Any], graph: Pregel[Any, Any, Any, Any]) -> int | None:
    """The limit that the request set, or else the graph's author; it counts per run, not per attempt."""
    limit = kwargs.get("config", {}).get("recursion_limit") or (graph.config or {}).get("recursion_limit")
    return limit if isinstance(limit, int) else None


def out_of_steps(limit: int | None) -> str:
    """What LangGraph says when the limit is reached."""
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
    """The nodes that the head's channels are about to start, whether or not the loaded graph has them."""
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

    With durability `exit` those are several supersteps; but a breakpoint after one of them would have stopped the
    run there, so it can only hold if that was the last.
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
