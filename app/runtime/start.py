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
from langgraph.pregel import Pregel
from langgraph.pregel._algo import should_interrupt
from langgraph.types import All, Command, PregelTask, Send

from app.runtime.claims import ClaimedRun
from app.runtime.saver import NULL_TASK_ID

BRANCH = "branch:to:"
"""Prefix of the channels with which LangGraph triggers a node."""

CHECKPOINT_KEYS = ("checkpoint_id", "checkpoint_ns", "checkpoint_map")


@dataclass(frozen=True, slots=True)
class Begin:
    """Start the graph with `input`.

    `recursion_limit` is what is left of the run's own; None leaves the graph's default. With `last_step` exactly one
    superstep is left, which LangGraph cannot be told (its smallest limit allows two): it is run with
    `interrupt_after="*"`.
    """

    input: Any
    resumed: bool
    recursion_limit: int | None
    last_step: bool = False


@dataclass(frozen=True, slots=True)
class Over:
    """Nothing is left to do: the last attempt got to the end, or to a static breakpoint, but did not say so."""


@dataclass(frozen=True, slots=True)
class Impossible:
    """The run cannot go on; `error` and `message` say why."""

    error: str
    message: str


Opening = Begin | Over | Impossible


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


def open_again(
    run: ClaimedRun,
    graph: Pregel[Any, Any, Any, Any],
    head: CheckpointTuple | None,
    parent: CheckpointTuple | None,
    tasks: Sequence[PregelTask],
) -> Opening:
    """Decide how a run whose input is stored goes on from its thread's `head`.

    `tasks` are the head's, with results or not: one whose writes wait for their siblings is not finished.
    """
    if head is None:
        return Impossible(
            "CheckpointMissing", f"The checkpoints of run {run.run_id} were deleted while it ran."
        )
    missing = sorted(pending_nodes(head.checkpoint, head.pending_writes or ()) - set(graph.nodes))
    if missing:
        return Impossible(
            "NodeMissing",
            f"The run was to go on with node {', '.join(map(repr, missing))}, which graph {run.graph_id!r} no longer "
            "has. Deploy a version that still has it, or start a new run.",
        )
    own = str(head.metadata.get("run_id")) == str(run.run_id)
    if own and not tasks:
        return Over()
    before, after = breakpoints(run.kwargs, graph)
    if own and (
        _holds(head.checkpoint, before, [task.name for task in tasks])
        or (
            parent is not None
            and _holds(head.checkpoint, after, nodes_that_ran(parent.checkpoint, head.checkpoint))
        )
    ):
        # `None` would step over it, and with it over the person who was to be asked.
        return Over()
    limit = recursion_limit(run.kwargs)
    if limit is None or run.input_step is None:
        return Begin(None, resumed=True, recursion_limit=None)
    left = run.input_step + limit - head.metadata["step"] - 1
    if left < 0:
        return Impossible(
            "GraphRecursionError",
            f"Recursion limit of {limit} reached without hitting a stop condition. You can increase the limit by "
            "setting the `recursion_limit` config key.",
        )
    return Begin(None, resumed=True, recursion_limit=max(left, 1), last_step=left == 0)


def recursion_limit(kwargs: Mapping[str, Any]) -> int | None:
    """The limit that the request set; it counts per run, not per attempt."""
    limit = kwargs.get("config", {}).get("recursion_limit")
    return limit if isinstance(limit, int) else None


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
    for task_id, channel, value in pending_writes:
        if task_id == NULL_TASK_ID:
            if channel.startswith(BRANCH):
                names.add(channel.removeprefix(BRANCH))
            elif channel == TASKS and isinstance(value, Send):
                names.add(value.node)
    return names


def nodes_that_ran(parent: Checkpoint, head: Checkpoint) -> set[str]:
    """The nodes of the superstep between two checkpoints."""
    before = parent["versions_seen"]
    ran = {name for name, seen in head["versions_seen"].items() if seen and seen != before.get(name)}
    ran |= {send.node for send in parent["channel_values"].get(TASKS) or () if isinstance(send, Send)}
    return {name for name in ran if not name.startswith("__")}


def _holds(checkpoint: Checkpoint, nodes: All | Sequence[str], names: Collection[str]) -> bool:
    if not nodes:
        return False
    tasks = [SimpleNamespace(name=name, config=None) for name in names]
    return bool(should_interrupt(checkpoint, nodes, cast("Any", tasks)))
