"""What the routes of the dialect answer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from slackwater.api.assistants.openapi import (
    BROKEN,
    BY_NAME,
    ONE,
    SCHEMAS,
    XRAY,
    Assistant,
    GraphDrawing,
    GraphSchemas,
)
from slackwater.api.runs.openapi import ACTION, EVENTS, LATE, MODES, PATH
from slackwater.api.threads.openapi import Interrupt, StateWritten, ThreadTask
from slackwater.dialect.messages import InvalidMessage
from slackwater.dialect.service import NotCancellable
from slackwater.errors import (
    BadRequest,
    CancelByPost,
    ConfigurationUnusable,
    JoinAgain,
    NotFound,
    PageTooLarge,
    ThreadBusy,
    TooManyRuns,
    WriteForgotten,
)
from slackwater.runtime.process.hold import ThreadHeld
from slackwater.runtime.queue.admission import RunForgotten
from slackwater.web.openapi.parameters import CHECKPOINT, MOMENT, RUN, THREAD
from slackwater.web.openapi.pieces import (
    PART,
    ErrorKind,
    Json,
    Operation,
    Response,
    ServerSentEvent,
    Shape,
    header,
    page,
)
from slackwater.workspace.llm_models.allowed import UnknownModel
from slackwater.workspace.usage.service import NOTHING

TAG = "The same threads, runs and assistants for clients of DeerFlow's gateway."


class GatewayThreadShown(Shape):
    """A thread. Of a search, its values are the title only."""

    thread_id: UUID
    status: Literal["idle", "busy", "interrupted", "error"]
    created_at: datetime
    updated_at: datetime
    metadata: dict[str, Any]
    values: dict[str, Any]
    interrupts: dict[str, list[Interrupt]]


class GatewayThreadPart(GatewayThreadShown):
    """The requested keys of a thread."""

    model_config = PART


class GatewayDeleted(Shape):
    """What has become of a thread."""

    success: bool
    message: str


class GatewayMoment(Shape):
    """A checkpoint, from which no run can fork."""

    id: str | None
    ts: datetime | None


class GatewayState(Shape):
    """The state of a thread."""

    values: Any
    next: list[str]
    metadata: dict[str, Any]
    checkpoint: GatewayMoment
    checkpoint_id: str | None
    parent_checkpoint_id: str | None
    created_at: datetime | None
    tasks: list[ThreadTask]


class GatewayEntry(Shape):
    """A state of a history."""

    checkpoint_id: str | None
    parent_checkpoint_id: str | None
    metadata: dict[str, Any]
    values: dict[str, Any]
    """Of the first state all; of the others `title`, `thread_data`, `artifacts` and `todos`."""
    created_at: datetime | None
    next: list[str]


class GatewayRunShown(Shape):
    """A run, and what has been counted of it."""

    run_id: UUID
    thread_id: UUID
    assistant_id: str
    """As the request named it."""
    status: Literal["pending", "running", "success", "error", "timeout", "interrupted"]
    metadata: dict[str, Any]
    kwargs: dict[str, Any]
    """Its `input` and `config`."""
    multitask_strategy: Literal["reject", "interrupt", "rollback", "enqueue"]
    created_at: datetime
    updated_at: datetime
    total_input_tokens: int
    total_output_tokens: int
    total_tokens: int
    llm_call_count: int
    lead_agent_tokens: int
    subagent_tokens: int
    middleware_tokens: int
    message_count: int
    error: str = ""
    """What has gone wrong; absent if nothing has."""


_THREAD: Json = {
    "thread_id": THREAD,
    "status": "idle",
    "created_at": MOMENT,
    "updated_at": MOMENT,
    "metadata": {},
    "values": {"title": "Tides"},
    "interrupts": {},
}
_RUN: Json = {
    "run_id": RUN,
    "thread_id": THREAD,
    "assistant_id": "lead_agent",
    "status": "pending",
    "metadata": {},
    "kwargs": {"input": {"messages": []}, "config": {"recursion_limit": 1000, "configurable": {}}},
    "multitask_strategy": "reject",
    "created_at": MOMENT,
    "updated_at": MOMENT,
    **NOTHING,
}


class GatewayAssistant(Assistant):
    """A graph with a configuration for its runs, or one of the caller's agents."""

    assistant_id: UUID | str  # type: ignore[assignment]  # of an agent its name


class GatewayAssistantPart(GatewayAssistant):
    """The requested keys of it."""

    model_config = PART


_ASSISTANT: Json = {**ONE, "graph_id": "lead_agent", "name": "lead_agent"}
_CONTENT_LOCATION: Json = {"Content-Location": header("Where the run is.", example=f"/api{PATH}")}


def _located(last: str) -> Json:
    where = header("Where to resume when the connection breaks, below /api.", example=f"{PATH}/{last}")
    return {**_CONTENT_LOCATION, "Location": where}


_STREAM = Response(
    "The run's events, until it ends.",
    ServerSentEvent,
    EVENTS,
    media_type="text/event-stream",
    headers=_located("stream"),
)
_VALUES = Response(
    'Its last values, after newlines that keep the connection open; `{"__error__": {"error", "message"}}` if it has failed.',
    Any,
    {"messages": [{"type": "ai", "content": "It is slack water."}]},
    headers=_located("join"),
)
_ASKED = {
    "a message": {
        "assistant_id": "lead_agent",
        "input": {
            "messages": [{"type": "human", "content": [{"type": "text", "text": "What is the tide?"}]}]
        },
        "config": {"recursion_limit": 1000},
        "context": {"model_name": "fast", "thinking_enabled": False},
        "stream_mode": ["messages-tuple", "values"],
        "on_disconnect": "continue",
    }
}
_REFUSED: tuple[ErrorKind, ...] = (
    BadRequest,
    UnknownModel("x"),
    InvalidMessage(0, "Unexpected message type: 'nobody'."),
    NotFound,
    RunForgotten,
    ThreadBusy,
    TooManyRuns,
    ConfigurationUnusable,
    WriteForgotten,
)
_CANCELLED: tuple[ErrorKind, ...] = (NotFound, NotCancellable(UUID(RUN), "success"))
_ACTION = {**ACTION, "example": "interrupt"}
_WAIT = {
    "description": "If `true`, `1` or `yes`, respond only when the run has stopped, or after 25 seconds.",
    "example": "true",
}
_ENDED = {
    202: Response("The run is being cancelled."),
    204: Response("The run has ended."),
}

OPERATIONS: Mapping[str, Operation] = {
    "POST /api/threads": Operation(
        id="gateway_create_thread",
        responses={200: Response("The thread.", GatewayThreadShown, _THREAD)},
        errors=(NotFound,),
        bodies={"by the browser": {"thread_id": THREAD, "metadata": {}}},
    ),
    "POST /api/threads/search": Operation(
        id="gateway_search_threads",
        responses={200: page(GatewayThreadPart, _THREAD)},
        errors=(PageTooLarge,),
        bodies={
            "the list of chats": {
                "limit": 50,
                "sort_by": "updated_at",
                "sort_order": "desc",
                "select": ["thread_id", "updated_at", "values", "metadata"],
            }
        },
    ),
    "GET /api/threads/{thread_id}": Operation(
        id="gateway_get_thread",
        responses={200: Response("The thread.", GatewayThreadShown, _THREAD)},
        errors=(NotFound,),
    ),
    "PATCH /api/threads/{thread_id}": Operation(
        id="gateway_patch_thread",
        responses={200: Response("The thread.", GatewayThreadShown, _THREAD)},
        errors=(NotFound,),
        bodies={"its agent": {"metadata": {"agent_name": "researcher"}}},
    ),
    "DELETE /api/threads/{thread_id}": Operation(
        id="gateway_delete_thread",
        responses={
            200: Response(
                "It is gone.", GatewayDeleted, {"success": True, "message": f"Deleted thread {THREAD}"}
            )
        },
        errors=(NotFound,),
    ),
    "GET /api/threads/{thread_id}/state": Operation(
        id="gateway_get_state",
        responses={
            200: Response(
                "The state.",
                GatewayState,
                {
                    "values": {"messages": []},
                    "next": [],
                    "metadata": {"step": 1},
                    "checkpoint": {"id": CHECKPOINT, "ts": MOMENT},
                    "checkpoint_id": CHECKPOINT,
                    "parent_checkpoint_id": None,
                    "created_at": MOMENT,
                    "tasks": [],
                },
            )
        },
        errors=BROKEN,
    ),
    "POST /api/threads/{thread_id}/state": Operation(
        id="gateway_update_state",
        responses={
            200: Response(
                "The checkpoint that was written.",
                StateWritten,
                {
                    "checkpoint": {"checkpoint_id": CHECKPOINT, "thread_id": THREAD, "checkpoint_ns": ""},
                    "configurable": {"checkpoint_id": CHECKPOINT, "thread_id": THREAD, "checkpoint_ns": ""},
                    "checkpoint_id": CHECKPOINT,
                },
            )
        },
        errors=(BadRequest, *BROKEN, ThreadHeld, WriteForgotten),
        bodies={"another title": {"values": {"title": "Tides"}}},
    ),
    "POST /api/threads/{thread_id}/history": Operation(
        id="gateway_history",
        responses={
            200: Response(
                "States, newest first.",
                list[GatewayEntry],
                [
                    {
                        "checkpoint_id": CHECKPOINT,
                        "parent_checkpoint_id": None,
                        "metadata": {"step": 1},
                        "values": {"title": "Tides", "messages": []},
                        "created_at": MOMENT,
                        "next": [],
                    }
                ],
            )
        },
        errors=(*BROKEN, PageTooLarge),
        bodies={"the newest": {"limit": 1}, "those before": {"limit": 10, "before": CHECKPOINT}},
    ),
    "POST /api/threads/{thread_id}/runs": Operation(
        id="gateway_create_run",
        responses={
            200: Response(
                "The run.",
                GatewayRunShown,
                _RUN,
                headers=_CONTENT_LOCATION,
            )
        },
        errors=_REFUSED,
        bodies=_ASKED,
    ),
    "POST /api/threads/{thread_id}/runs/stream": Operation(
        id="gateway_stream_run", responses={200: _STREAM}, errors=_REFUSED, bodies=_ASKED
    ),
    "POST /api/threads/{thread_id}/runs/wait": Operation(
        id="gateway_wait_for_run", responses={200: _VALUES}, errors=(*_REFUSED, LATE), bodies=_ASKED
    ),
    "POST /api/runs/stream": Operation(
        id="gateway_stream_stateless_run", responses={200: _STREAM}, errors=_REFUSED, bodies=_ASKED
    ),
    "POST /api/runs/wait": Operation(
        id="gateway_wait_for_stateless_run",
        responses={200: _VALUES},
        errors=(*_REFUSED, LATE),
        bodies=_ASKED,
    ),
    "GET /api/threads/{thread_id}/runs": Operation(
        id="gateway_list_runs",
        responses={200: Response("The runs, newest first.", list[GatewayRunShown], [_RUN])},
        errors=(NotFound, PageTooLarge),
    ),
    "GET /api/threads/{thread_id}/runs/{run_id}": Operation(
        id="gateway_get_run", responses={200: Response("The run.", GatewayRunShown, _RUN)}, errors=(NotFound,)
    ),
    "POST /api/threads/{thread_id}/runs/{run_id}/cancel": Operation(
        id="gateway_cancel_run",
        responses=_ENDED,
        errors=_CANCELLED,
        parameters={"action": _ACTION, "wait": _WAIT},
    ),
    "GET /api/threads/{thread_id}/runs/{run_id}/join": Operation(
        id="gateway_join_run", responses={200: _VALUES}, errors=(NotFound, JoinAgain)
    ),
    "GET /api/threads/{thread_id}/runs/{run_id}/stream": Operation(
        id="gateway_join_run_stream",
        responses={200: _STREAM},
        errors=(NotFound, CancelByPost),
        parameters={
            "stream_mode": MODES,
            "action": {"description": "Refused: cancel by POST.", "example": ""},
        },
    ),
    "POST /api/threads/{thread_id}/runs/{run_id}/stream": Operation(
        id="gateway_cancel_and_stream_run",
        responses={200: _STREAM, **_ENDED},
        errors=_CANCELLED,
        parameters={"action": _ACTION, "wait": _WAIT},
    ),
    "POST /api/assistants/search": Operation(
        id="gateway_search_assistants",
        responses={200: page(GatewayAssistantPart, _ASSISTANT)},
        errors=(NotFound, PageTooLarge),
        bodies={"all": {}},
    ),
    "GET /api/assistants/{assistant_id}": Operation(
        id="gateway_get_assistant",
        responses={200: Response("The assistant.", GatewayAssistant, _ASSISTANT)},
        errors=(NotFound,),
        parameters={"assistant_id": BY_NAME},
    ),
    "GET /api/assistants/{assistant_id}/graph": Operation(
        id="gateway_draw_graph",
        responses={200: Response("A drawing of the graph.", GraphDrawing, {"nodes": [], "edges": []})},
        errors=BROKEN,
        parameters={"assistant_id": BY_NAME, "xray": XRAY},
    ),
    "GET /api/assistants/{assistant_id}/schemas": Operation(
        id="gateway_get_schemas",
        responses={
            200: Response(
                "The schemas.",
                GraphSchemas,
                {"graph_id": "lead_agent", **SCHEMAS},
            )
        },
        errors=BROKEN,
        parameters={"assistant_id": BY_NAME},
    ),
}
