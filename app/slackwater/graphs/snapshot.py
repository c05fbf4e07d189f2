"""LangGraph's snapshot of a thread in the words of the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.types import Interrupt, PregelTask, StateSnapshot

FIELDS = (
    "values",
    "next",
    "tasks",
    "metadata",
    "created_at",
    "checkpoint",
    "parent_checkpoint",
    "interrupts",
    "checkpoint_id",
    "parent_checkpoint_id",
)
"""The keys of a thread's state in a response."""

EMPTY: Mapping[str, Any] = dict.fromkeys(FIELDS) | {
    "values": {},
    "next": [],
    "tasks": [],
    "interrupts": [],
}
"""The state of a thread on which no graph has run."""

_CHECKPOINT_KEYS = ("checkpoint_id", "thread_id", "checkpoint_ns", "checkpoint_map")


def thread_state(snapshot: StateSnapshot) -> dict[str, Any]:
    """The `ThreadState` of a snapshot, for `slackwater.kit.json_format.dumps`; subgraphs' snapshots are inside their tasks."""
    checkpoint = _checkpoint(snapshot.config)
    parent = _checkpoint(snapshot.parent_config)
    return {
        "values": snapshot.values,
        "next": list(snapshot.next),
        "tasks": [_task(task) for task in snapshot.tasks],
        "metadata": _metadata(snapshot),
        "created_at": snapshot.created_at,
        "checkpoint": checkpoint,
        "parent_checkpoint": parent,
        "interrupts": [_interrupt(interrupt) for interrupt in snapshot.interrupts],
        "checkpoint_id": checkpoint and checkpoint["checkpoint_id"],
        "parent_checkpoint_id": parent and parent["checkpoint_id"],
    }


def thread_facts(snapshot: StateSnapshot) -> tuple[str, Any, dict[str, list[dict[str, Any]]]]:
    """What the thread itself shows of its latest snapshot: `(status, values, interrupts)`.

    The status is `interrupted` where something is left to do, else `idle`; the interrupts are those that wait for
    an answer, `{task_id: [{"id", "value"}]}`.
    """
    # Not `next`: it is empty too when all tasks of a superstep have finished, and the end of it was not stored.
    interrupts = {
        task.id: [_interrupt(i) for i in task.interrupts] for task in snapshot.tasks if task.interrupts
    }
    return "interrupted" if snapshot.tasks else "idle", snapshot.values, interrupts


def checkpoint_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Where a config points to: the keys of its `configurable` that name a checkpoint, and none of LangGraph's own."""
    configurable = config["configurable"]
    return {name: configurable[name] for name in _CHECKPOINT_KEYS if name in configurable}


def select_from(state: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """Only these fields of a state; `values.<key>` is one key of its values. No fields: all of it."""
    if not fields:
        return dict(state)
    selected = {name: state[name] for name in fields if name in state}
    keys = [field.removeprefix("values.") for field in fields if field.startswith("values.")]
    if keys and "values" not in selected:
        values = state["values"] if isinstance(state["values"], Mapping) else {}
        selected["values"] = {key: values[key] for key in keys if key in values}
    return selected


def _checkpoint(config: RunnableConfig | None) -> dict[str, Any] | None:
    """The checkpoint that a config names, or None if it names a thread only."""
    if not config or not config["configurable"].get("checkpoint_id"):
        return None
    return checkpoint_of(config)


def _task(task: PregelTask) -> dict[str, Any]:
    # Without `subgraphs` LangGraph says only where a subgraph's checkpoints are.
    where = checkpoint_of(task.state) if isinstance(task.state, dict) else None
    state = thread_state(task.state) if isinstance(task.state, tuple) else None
    error: object = task.error  # comes out of a checkpoint as the exception's repr
    return {
        "id": task.id,
        "name": task.name,
        "path": task.path,
        "error": error if error is None or isinstance(error, str) else repr(error),
        "interrupts": [_interrupt(interrupt) for interrupt in task.interrupts],
        "checkpoint": where,
        "state": state,
        "result": task.result,
    }


def _interrupt(interrupt: Interrupt[Any]) -> dict[str, Any]:
    shown = {"id": interrupt.id, "value": interrupt.value}
    schema = getattr(interrupt, "response_schema", None)  # not in checkpoints of older LangGraph versions
    return shown if schema is None else {**shown, "response_schema": schema}


def _metadata(snapshot: StateSnapshot) -> dict[str, Any] | None:
    # LangGraph does not store the thread's id with the rest, and a copy could not keep it.
    if snapshot.metadata is None:
        return None
    return {**snapshot.metadata, "thread_id": snapshot.config["configurable"]["thread_id"]}
