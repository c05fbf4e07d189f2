"""What the routes of threads answer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from slackwater.api.assistants.openapi import BROKEN
from slackwater.api.threads.models import Status
from slackwater.api.threads.streaming import MODES
from slackwater.errors import (
    BadRequest,
    Conflict,
    NotFound,
    PageTooLarge,
    WriteForgotten,
)
from slackwater.runtime.process.hold import ThreadHeld
from slackwater.web.openapi.parameters import ASSISTANT, CHECKPOINT, MOMENT, RUN, THREAD
from slackwater.web.openapi.pieces import (
    NO_CONTENT,
    PART,
    Json,
    Operation,
    Response,
    ServerSentEvent,
    Shape,
    header,
    page,
)

TAG = "The state that successive runs share, and its history."


class Interrupt(Shape):
    """A question of a graph to its user, until a run resumes with the answer."""

    id: str
    value: Any
    response_schema: Any = None
    """The schema of the answer, if the graph declares one."""


class Thread(Shape):
    """The current state of a thread."""

    thread_id: UUID
    created_at: datetime
    updated_at: datetime
    state_updated_at: datetime | None
    metadata: dict[str, Any]
    status: Status
    config: dict[str, Any]
    values: Any
    """The values of the newest state; null if there is none."""
    interrupts: dict[str, list[Interrupt]]
    """The interrupts that wait for an answer, by the id of the task that asked."""
    error: Any
    """The error of the last run; null if it did not fail."""


class ThreadTtl(Shape):
    """When a thread expires, and what happens then."""

    strategy: Literal["delete", "keep_latest"]
    ttl_minutes: float
    expires_at: datetime


def _no_default(schema: Json) -> None:
    schema.pop("default", None)


class ThreadFound(Thread):
    """The current state of a thread, with the additional fields requested."""

    ttl: ThreadTtl | None = Field(None, json_schema_extra=_no_default)
    """With `include=ttl`; null means forever."""


class ThreadPart(Thread):
    """The requested keys of a thread."""

    model_config = PART

    extracted: dict[str, Any]
    """The values that `extract` requests, by alias."""


class CheckpointPlace(Shape):
    """Names a checkpoint."""

    checkpoint_id: UUID
    thread_id: UUID
    checkpoint_ns: str
    checkpoint_map: Any = Field(None, json_schema_extra=_no_default)


class SubgraphPlace(Shape):
    """Where a subgraph's checkpoints are."""

    checkpoint_id: str | None = Field(None, json_schema_extra=_no_default)
    thread_id: UUID
    checkpoint_ns: str
    checkpoint_map: Any = Field(None, json_schema_extra=_no_default)


class ThreadTask(Shape):
    """A node that will run, is running or has failed."""

    id: str
    name: str
    path: list[Any]
    error: str | None
    interrupts: list[Interrupt]
    checkpoint: SubgraphPlace | None
    state: ThreadState | None
    """The state of the subgraph inside, with `subgraphs=true`."""
    result: Any


class ThreadState(Shape):
    """The state of a thread at a checkpoint."""

    values: Any
    next: list[str]
    """The nodes that run next."""
    tasks: list[ThreadTask]
    metadata: dict[str, Any] | None
    created_at: datetime | None
    checkpoint: CheckpointPlace | None
    parent_checkpoint: CheckpointPlace | None
    interrupts: list[Interrupt]
    checkpoint_id: str | None
    parent_checkpoint_id: str | None


class StatePart(ThreadState):
    """The requested keys of a state; all of them without `select`."""

    model_config = PART


class StateWritten(Shape):
    """The checkpoint that was written."""

    checkpoint: CheckpointPlace
    configurable: CheckpointPlace
    """The same, under its older name."""
    checkpoint_id: UUID


class Pruned(Shape):
    """What was done."""

    pruned_count: int


class Amount(Shape):
    """How many, and how large together."""

    count: int
    bytes: int


class Channels(Amount):
    """The total, and each kind."""

    by_channel: dict[str, Amount]


class ThreadStorage(Shape):
    """The size of a thread in the database, before compression."""

    thread_id: UUID
    total_bytes: int
    checkpoints: Amount
    channel_values: Channels
    pending_writes: Amount


_ONE: Json = {
    "thread_id": THREAD,
    "created_at": MOMENT,
    "updated_at": MOMENT,
    "state_updated_at": MOMENT,
    "metadata": {"graph_id": "agent", "assistant_id": ASSISTANT},
    "status": "idle",
    "config": {},
    "values": {"messages": []},
    "interrupts": {},
    "error": None,
}
_PLACE = {"checkpoint_id": CHECKPOINT, "thread_id": THREAD, "checkpoint_ns": ""}
_STATE: Json = {
    "values": {"messages": []},
    "next": [],
    "tasks": [],
    "metadata": {"source": "loop", "step": 1, "run_id": RUN},
    "created_at": MOMENT,
    "checkpoint": _PLACE,
    "parent_checkpoint": None,
    "interrupts": [],
    "checkpoint_id": CHECKPOINT,
    "parent_checkpoint_id": None,
}
_AMOUNT = {"count": 3, "bytes": 4096}
_EVENTS = f"""id: 1-0

event: metadata
data: {{"run_id":"{RUN}","attempt":1}}
id: 1-1

event: values
data: {{"messages":[]}}
id: 1-2

"""
_GIVES = {"thread_id": "$response.body#/thread_id"}
_SHOWN = Response("The thread.", Thread, _ONE, gives=_GIVES)
_AT = {"thread_id": "$request.path.thread_id", "checkpoint_id": "$response.body#/checkpoint_id"}
_STATE_SHOWN = Response("The state.", StatePart, _STATE, gives=_AT)
_HISTORY = Response("States, newest first.", list[StatePart], [_STATE])
_FIELD = {
    "type": "string",
    "pattern": "^(values|next|tasks|metadata|created_at|checkpoint|parent_checkpoint|interrupts|checkpoint_id"
    "|parent_checkpoint_id)$|^values\\..*",
}
_SELECT = {"select": {"schema": {"type": "array", "items": _FIELD, "default": []}}}
_SUBGRAPHS = {"subgraphs": {"description": "Whether tasks include the states of their subgraphs."}}
_MODES = {
    "description": "Which events: those of runs (`run_modes`), their starts and ends (`lifecycle`), states that were "
    "than runs have written (`state_update`).",
    "schema": {"type": "array", "items": {"type": "string", "enum": list(MODES)}},
    "example": ["run_modes", "state_update"],
}

OPERATIONS: Mapping[str, Operation] = {
    "POST /threads": Operation(
        id="create_thread",
        responses={200: _SHOWN},
        errors=(BadRequest, *BROKEN, Conflict),
        bodies={
            "empty": {},
            "that lives for an hour": {"metadata": {"customer": "4711"}, "ttl": 60},
            "with a state": {
                "metadata": {"graph_id": "agent"},
                "supersteps": [{"updates": [{"values": {"messages": []}, "as_node": "__start__"}]}],
            },
        },
    ),
    "POST /threads/search": Operation(
        id="search_threads",
        responses={200: page(ThreadPart, _ONE)},
        bodies={
            "what waits for people": {"status": "interrupted", "select": ["thread_id", "interrupts"]},
            "the last words": {"metadata": {"customer": "4711"}, "extract": {"last": "values.messages[-1]"}},
        },
        errors=(PageTooLarge,),
    ),
    "POST /threads/count": Operation(
        id="count_threads",
        responses={200: Response("The number of matches.", int, 42)},
        bodies={"busy ones": {"status": "busy"}},
    ),
    "POST /threads/prune": Operation(
        id="prune_threads",
        responses={200: Response("How many threads were pruned.", Pruned, {"pruned_count": 1})},
        errors=(NotFound, ThreadHeld),
        bodies={"all but the newest state": {"thread_ids": [THREAD], "strategy": "keep_latest"}},
    ),
    "GET /threads/{thread_id}": Operation(
        id="get_thread",
        responses={200: Response("The thread.", ThreadFound, _ONE, gives=_GIVES)},
        errors=(NotFound,),
        parameters={
            "include": {
                "description": "Additional fields to return, separated by commas: `ttl`.",
                "example": ["ttl"],
            }
        },
    ),
    "GET /threads/{thread_id}/storage": Operation(
        id="get_thread_storage",
        responses={
            200: Response(
                "Its size.",
                ThreadStorage,
                {
                    "thread_id": THREAD,
                    "total_bytes": 8192,
                    "checkpoints": _AMOUNT,
                    "channel_values": {**_AMOUNT, "by_channel": {"messages": _AMOUNT}},
                    "pending_writes": {"count": 0, "bytes": 0},
                },
            )
        },
        errors=(NotFound,),
    ),
    "PATCH /threads/{thread_id}": Operation(
        id="update_thread",
        responses={
            200: _SHOWN,
            204: Response(
                "Done, with `Prefer: return=minimal`.",
                headers={"Preference-Applied": header("The requested fields.", example="return=minimal")},
            ),
        },
        errors=(NotFound,),
        bodies={"more metadata": {"metadata": {"topic": "invoices"}}, "for ever": {"ttl": None}},
        parameters={
            "prefer": {
                "name": "Prefer",
                "description": "`return=minimal` omits the body.",
                "example": "return=minimal",
            }
        },
    ),
    "DELETE /threads/{thread_id}": Operation(
        id="delete_thread", responses={204: NO_CONTENT}, errors=(NotFound,)
    ),
    "POST /threads/{thread_id}/copy": Operation(
        id="copy_thread",
        responses={200: Response("The new thread.", Thread, _ONE, gives=_GIVES)},
        errors=(Conflict,),
    ),
    "GET /threads/{thread_id}/stream": Operation(
        id="stream_thread",
        responses={
            200: Response(
                "Events, until the thread is deleted or the client disconnects.",
                ServerSentEvent,
                _EVENTS,
                media_type="text/event-stream",
                headers={
                    "Location": header(
                        "Where to resume.", example=f"/threads/{THREAD}/stream?stream_modes=run_modes"
                    )
                },
            )
        },
        errors=(NotFound,),
        parameters={
            "stream_modes": _MODES,
            "stream_mode": {**_MODES, "description": "The same, under the name that the SDKs send."},
            "Last-Event-ID": {
                "schema": {"type": "string", "pattern": "^(-|[0-9]{1,18}(-([0-9]{1,9}|\\*))?)$"},
                "description": "The id of the last event received; only later events are sent. All events are sent "
                "after `-`.",
            },
        },
    ),
    "GET /threads/{thread_id}/state": Operation(
        id="get_state",
        responses={200: _STATE_SHOWN},
        errors=BROKEN,
        parameters={**_SUBGRAPHS, **_SELECT},
    ),
    "GET /threads/{thread_id}/state/{checkpoint_id}": Operation(
        id="get_state_at",
        responses={200: _STATE_SHOWN},
        errors=BROKEN,
        parameters={**_SUBGRAPHS, **_SELECT},
    ),
    "POST /threads/{thread_id}/state/checkpoint": Operation(
        id="get_state_at_checkpoint",
        responses={200: _STATE_SHOWN},
        errors=BROKEN,
        bodies={"of a subgraph": {"checkpoint": {"checkpoint_id": CHECKPOINT, "checkpoint_ns": "child"}}},
    ),
    "POST /threads/{thread_id}/state": Operation(
        id="update_state",
        responses={
            200: Response(
                "The checkpoint that was written.",
                StateWritten,
                {"checkpoint": _PLACE, "configurable": _PLACE, "checkpoint_id": CHECKPOINT},
                gives=_AT,
            )
        },
        errors=(BadRequest, *BROKEN, ThreadHeld, WriteForgotten),
        bodies={"as a node would": {"values": {"messages": []}, "as_node": "agent"}},
    ),
    "GET /threads/{thread_id}/history": Operation(
        id="get_history",
        responses={200: _HISTORY},
        errors=(*BROKEN, PageTooLarge),
        parameters={
            "before": {
                "description": "The id of a checkpoint: only states before it are returned.",
                "schema": {"type": "string", "format": "uuid"},
                "example": CHECKPOINT,
            },
            **_SELECT,
        },
    ),
    "POST /threads/{thread_id}/history": Operation(
        id="search_history",
        responses={200: _HISTORY},
        errors=(*BROKEN, PageTooLarge),
        bodies={"the last ten": {"limit": 10, "select": ["checkpoint_id", "values.messages"]}},
    ),
}
