"""What the routes of runs answer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from slackwater.api.runs.models import READABLE, RUN_FIELDS
from slackwater.errors import (
    BadRequest,
    JoinAgain,
    NotFound,
    PageTooLarge,
    StillRunning,
    ThreadBusy,
    TooManyRuns,
)
from slackwater.runtime.queue.admission import RunForgotten
from slackwater.web.openapi.parameters import ASSISTANT, MOMENT, RUN, THREAD
from slackwater.web.openapi.pieces import (
    NO_CONTENT,
    PART,
    ErrorKind,
    Json,
    Operation,
    Response,
    ServerSentEvent,
    Shape,
    header,
)

TAG = "Executions of a graph: in the background, waited for, or streamed."

PATH = f"/threads/{THREAD}/runs/{RUN}"


class Run(Shape):
    """The current state of a run. A run that was handed over is `pending` until another process resumes it."""

    run_id: UUID
    thread_id: UUID
    assistant_id: UUID
    metadata: dict[str, Any]
    status: Literal["pending", "running", "success", "error", "timeout", "interrupted"]
    kwargs: dict[str, Any]
    """The arguments that the run was started with."""
    multitask_strategy: Literal["reject", "interrupt", "rollback", "enqueue"]
    created_at: datetime
    updated_at: datetime
    langsmith_session_name: str | None


class RunPart(Run):
    """The requested keys of a run; all of them without `select`."""

    model_config = PART


_ONE = {
    "run_id": RUN,
    "thread_id": THREAD,
    "assistant_id": ASSISTANT,
    "metadata": {},
    "status": "pending",
    "kwargs": {"input": {"messages": []}, "stream_mode": ["values"], "durability": "async"},
    "multitask_strategy": "enqueue",
    "created_at": MOMENT,
    "updated_at": MOMENT,
    "langsmith_session_name": None,
}
EVENTS = f"""event: metadata
data: {{"run_id":"{RUN}","attempt":1}}
id: 1-0

event: values
data: {{"messages":[]}}
id: 1-1

: heartbeat

"""
_GIVES = {"thread_id": "$response.body#/thread_id", "run_id": "$response.body#/run_id"}


def _content_location(path: str) -> Json:
    return {"Content-Location": header("Where the run is.", example=path)}


def _location(path: str) -> Json:
    return {"Location": header("Where to resume when the connection breaks.", example=path)}


def _started(path: str) -> Response:
    return Response("The run.", Run, _ONE, headers=_content_location(path), gives=_GIVES)


def _streamed(path: str, description: str = "The run's events, until it ends.") -> Response:
    return Response(
        description,
        ServerSentEvent,
        EVENTS,
        media_type="text/event-stream",
        headers={**_location(f"{PATH}/stream"), **_content_location(path)},
    )


def _values(headers: Json) -> Response:
    return Response(
        'Its last values, after newlines that keep the connection open; `{"__error__": {"error", "message"}}` if it has '
        "failed, and beside the values `__interrupt__` if it asks for something.",
        Any,
        {"messages": [{"type": "ai", "content": "It is slack water."}]},
        headers=headers,
    )


_RUN = {"assistant_id": "agent", "input": {"messages": [{"role": "user", "content": "What is the tide?"}]}}
_BODIES = {
    "a message": _RUN,
    "after a question": {"assistant_id": "agent", "command": {"resume": "yes"}},
    "from an earlier state": {
        "assistant_id": "agent",
        "input": None,
        "checkpoint_id": "1f0a5c3e-5d0b-6b1c-8001-3f5e7d9c1b2a",
    },
}
_STATELESS_BODIES = {
    "a message": _RUN,
    "in an hour": {**_RUN, "after_seconds": 3600, "on_completion": "keep"},
}
_REFUSED: tuple[ErrorKind, ...] = (BadRequest, NotFound, RunForgotten, TooManyRuns)
_REFUSED_ON_A_THREAD = (*_REFUSED, ThreadBusy)
LATE = StillRunning(f"{PATH}/join")
ACTION = {
    "description": "`interrupt`, or `rollback`, which also undoes what the run wrote.",
    "example": "rollback",
}
_MODE = rf"({'|'.join(sorted(READABLE))})([|/][^\"\\\u0000-\u001f]*)?"
_BLANK = "[ \\t\\n\\r]*"
_PATTERN = rf'^({_MODE})?$|^\[{_BLANK}("{_MODE}"{_BLANK}(,{_BLANK}"{_MODE}"{_BLANK})*)?\]$'
MODES = {
    "description": "One mode, or a JSON array of modes; if missing, all modes that the run publishes.",
    "schema": {"type": "string", "pattern": _PATTERN},
    "example": "values",
}
_WHOLE = {**_location(f"{PATH}/join"), **_content_location(PATH)}

OPERATIONS: Mapping[str, Operation] = {
    "POST /threads/{thread_id}/runs": Operation(
        id="create_run", responses={200: _started(PATH)}, errors=_REFUSED_ON_A_THREAD, bodies=_BODIES
    ),
    "POST /runs": Operation(
        id="create_stateless_run",
        responses={200: _started(f"/runs/{RUN}")},
        errors=_REFUSED,
        bodies=_STATELESS_BODIES,
    ),
    "POST /threads/{thread_id}/runs/stream": Operation(
        id="stream_run", responses={200: _streamed(PATH)}, errors=_REFUSED_ON_A_THREAD, bodies=_BODIES
    ),
    "POST /runs/stream": Operation(
        id="stream_stateless_run",
        responses={200: _streamed(f"/runs/{RUN}")},
        errors=_REFUSED,
        bodies=_STATELESS_BODIES,
    ),
    "POST /threads/{thread_id}/runs/wait": Operation(
        id="wait_for_run",
        responses={200: _values(_WHOLE)},
        errors=(*_REFUSED_ON_A_THREAD, LATE),
        bodies=_BODIES,
    ),
    "POST /runs/wait": Operation(
        id="wait_for_stateless_run",
        responses={200: _values(_WHOLE)},
        errors=(*_REFUSED, LATE),
        bodies={"a message": _RUN},
    ),
    "POST /runs/batch": Operation(
        id="create_batch",
        responses={200: Response("The runs, in the order of the requests.", list[Run], [_ONE])},
        errors=(BadRequest, NotFound, TooManyRuns),
        bodies={"two": [_RUN, _RUN]},
    ),
    "POST /runs/cancel": Operation(
        id="cancel_runs",
        responses={204: Response("The runs are being cancelled.")},
        errors=(NotFound,),
        bodies={
            "some of a thread": {"thread_id": THREAD, "run_ids": [RUN]},
            "all of one's own": {"status": "all"},
        },
        parameters={"action": ACTION},
    ),
    "GET /threads/{thread_id}/runs": Operation(
        id="list_runs",
        responses={200: Response("The runs, newest first.", list[RunPart], [_ONE])},
        errors=(NotFound, PageTooLarge),
        parameters={
            "status": {"description": "Only runs with this status."},
            "select": {"schema": {"type": "array", "items": {"type": "string", "enum": list(RUN_FIELDS)}}},
        },
    ),
    "GET /threads/{thread_id}/runs/{run_id}": Operation(
        id="get_run", responses={200: Response("The run.", Run, _ONE)}, errors=(NotFound,)
    ),
    "DELETE /threads/{thread_id}/runs/{run_id}": Operation(
        id="delete_run", responses={204: NO_CONTENT}, errors=(NotFound,)
    ),
    "POST /threads/{thread_id}/runs/{run_id}/cancel": Operation(
        id="cancel_run",
        responses={200: _values(_WHOLE), 202: Response("The run is being cancelled.")},
        errors=(NotFound, LATE),
        parameters={
            "action": ACTION,
            "wait": {
                "description": "If `true`, `1` or `yes`, respond only when the run has stopped.",
                "example": "true",
            },
        },
    ),
    "GET /threads/{thread_id}/runs/{run_id}/join": Operation(
        id="join_run",
        # Neither is there where there is no such run: then this is the answer, too.
        responses={200: _values({name: {**shown, "required": False} for name, shown in _WHOLE.items()})},
        errors=(JoinAgain,),
    ),
    "GET /threads/{thread_id}/runs/{run_id}/stream": Operation(
        id="join_run_stream",
        responses={
            200: Response(
                "The run's events, until it ends; an `error` event if there is no such run.",
                ServerSentEvent,
                EVENTS,
                media_type="text/event-stream",
                headers={
                    name: {**shown, "required": False}
                    for name, shown in {**_location(f"{PATH}/stream"), **_content_location(PATH)}.items()
                },
            )
        },
        parameters={
            "stream_mode": MODES,
            "Last-Event-ID": {
                "description": "The id of the last event received; only later events are sent. All events are sent after "
                "`-1`. Without it, only new events are sent.",
            },
        },
    ),
}
