"""How threads, their states and runs are shown in the dialect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slackwater.api.threads.models import view
from slackwater.dialect.models import ASKED_FOR
from slackwater.kit import json_format
from slackwater.runtime.execution.own_failure import MARK
from slackwater.runtime.queue.states import RunStatus

LATER_VALUES = ("title", "thread_data", "artifacts", "todos")
"""What of a state is shown that is not the first one of an answer."""

_OF_LANGGRAPH = frozenset({"source", "writes", "parents", "counters_since_delta_snapshot"})


def thread(row: Mapping[str, Any]) -> dict[str, Any]:
    """A thread with the values of its newest state."""
    return {
        "thread_id": str(row["thread_id"]),
        "status": status_of(row),
        **view({name: row[name] for name in ("created_at", "updated_at", "metadata")}),
        "values": row["values"] or {},
        "interrupts": row["interrupts"] or {},
    }


def found_thread(row: Mapping[str, Any], select: list[str]) -> dict[str, Any]:
    """A thread of a search. Of its values there is only the title."""
    title = (row.get("extracted") or {}).get("title")
    shown = thread({**row, "values": {} if title is None else {"title": title}})
    return {name: shown[name] for name in select if name in shown} if select else shown


def status_of(row: Mapping[str, Any]) -> str:
    """A thread whose run was stopped is idle: it waits for nobody. One whose last answer says that the run has failed is an error.

    The others are shown with the status that they have. A search says the same in SQL.
    """
    status: str = row["status"]
    if status == "interrupted" and not row["interrupts"]:
        return "idle"
    return "error" if status == "idle" and _ends_in_failure(row["values"]) else status


def _ends_in_failure(values: object) -> bool:
    messages = values.get("messages") if isinstance(values, Mapping) else None
    last = messages[-1] if isinstance(messages, list) and messages else None
    more = last.get("additional_kwargs") if isinstance(last, Mapping) else None
    return isinstance(more, Mapping) and more.get(MARK) is True


def state(found: Mapping[str, Any]) -> dict[str, Any]:
    """A state. Its checkpoint is not one from which a run can fork."""
    checkpoint_id, moment = found["checkpoint_id"], found["created_at"]
    return {
        "values": found["values"],
        "next": found["next"],
        "metadata": found["metadata"] or {},
        "checkpoint": {"id": checkpoint_id, "ts": moment},
        "checkpoint_id": checkpoint_id,
        "parent_checkpoint_id": found["parent_checkpoint_id"],
        "created_at": moment,
        "tasks": found["tasks"],
    }


def entry(place: int, found: Mapping[str, Any]) -> dict[str, Any]:
    """A state of a history. The page would fork the next run from a `checkpoint`, and so undo what has been done to the thread since.

    Only the first one has all values: messages are many, and those of the states before are among them.
    """
    values = found["values"] if isinstance(found["values"], Mapping) else {}
    if place > 0:
        values = {name: values[name] for name in LATER_VALUES if name in values}
    return {
        "checkpoint_id": found["checkpoint_id"],
        "parent_checkpoint_id": found["parent_checkpoint_id"],
        "metadata": {
            key: item for key, item in (found["metadata"] or {}).items() if key not in _OF_LANGGRAPH
        },
        "values": values,
        "created_at": found["created_at"],
        "next": found["next"],
    }


def run(row: Mapping[str, Any], counted: Mapping[str, int]) -> dict[str, Any]:
    """A run, and what has been counted of it. One whose graph says itself that it has failed is an error here."""
    kwargs, error = row["kwargs"], row.get("error")
    status = RunStatus(row.get("shown_status", row["status"]))
    if status is RunStatus.SUCCESS and error:
        status = RunStatus.ERROR
    return {
        "run_id": str(row["run_id"]),
        "thread_id": str(row["thread_id"]),
        "assistant_id": kwargs.get(ASKED_FOR) or str(row["assistant_id"]),
        "status": status.value,
        "metadata": row["metadata"],
        "kwargs": {name: kwargs.get(name) for name in ("input", "config")},
        "multitask_strategy": row["multitask_strategy"],
        "created_at": json_format.timestamp(row["created_at"]),
        "updated_at": json_format.timestamp(row["updated_at"]),
        **counted,
        **({"error": error.get("message") or error.get("error")} if error else {}),
    }
