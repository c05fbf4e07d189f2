"""What the routes of protocol v2 answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from slackwater.errors import BadRequest, Invalid
from slackwater.protocols.events.subscription import CHANNELS, CHANNELS_MAX, NAMESPACES_MAX
from slackwater.web.openapi.pieces import PART, Error, Operation, Response, ServerSentEvent, Shape

TAG = "Threads for newer clients: commands, and one endless stream of events."


class ProtocolCommand(BaseModel):
    """A command for a thread."""

    id: int
    method: str
    """`run.start`, `input.respond` or `agent.getTree`; by WebSocket also `subscription.*`."""
    params: Any = None


class Applied(Shape):
    """How far the command has progressed."""

    applied_through_seq: int


class ProtocolAnswer(Shape):
    """The outcome of a command: its `result`, or an `error` and a `message`."""

    model_config = PART

    type: Literal["success", "error"]
    id: Any
    """The id of the command, even if it is not an integer."""
    result: Any
    meta: Applied
    error: str
    message: str


Channel = Annotated[str, Field(pattern=f"^({'|'.join(CHANNELS)}|custom:.+)$")]


class SubscriptionRequest(BaseModel):
    """Which events."""

    channels: Annotated[list[Channel], Field(min_length=1, max_length=CHANNELS_MAX)]
    namespaces: Annotated[Any, Field(json_schema_extra={"maxItems": NAMESPACES_MAX})] = None
    depth: Any = None
    since: Any = None
    """The number of the last event that has arrived."""


_START = {
    "id": 1,
    "method": "run.start",
    "params": {"assistant_id": "agent", "input": {"messages": [{"role": "user", "content": "Hello"}]}},
}
_EVENTS = """event: message
id: 1
data: {"type":"event","event_id":"1","seq":1,"method":"lifecycle","params":{"namespace":[],"data":{"event":"started"}}}

"""

OPERATIONS: Mapping[str, Operation] = {
    "POST /threads/{thread_id}/commands": Operation(
        id="command",
        body=ProtocolCommand,
        bodies={
            "a message": _START,
            "an answer": {
                "id": 2,
                "method": "input.respond",
                "params": {"interrupt_id": "3f0c8e5a", "response": "yes"},
            },
        },
        responses={
            200: Response(
                "The result of the command.",
                ProtocolAnswer,
                {
                    "type": "success",
                    "id": 1,
                    "result": {"run_id": "0199b6d2-7a90-7b3e-8f21-5c2d8e6f7a01"},
                    "meta": {"applied_through_seq": 0},
                },
            ),
            400: Response(
                "The body is not a command; a `detail` if it is not JSON.",
                ProtocolAnswer | Error,
                {
                    "type": "error",
                    "id": None,
                    "error": "invalid_argument",
                    "message": "Protocol commands must include an integer id and string method.",
                },
            ),
        },
    ),
    "POST /threads/{thread_id}/stream/events": Operation(
        id="stream_events",
        body=SubscriptionRequest,
        bodies={"what a chat shows": {"channels": ["values", "messages", "lifecycle", "input"], "since": 17}},
        responses={
            200: Response(
                "Events, until the client disconnects.",
                ServerSentEvent,
                _EVENTS,
                media_type="text/event-stream",
            )
        },
        errors=(BadRequest, Invalid),
    ),
}
