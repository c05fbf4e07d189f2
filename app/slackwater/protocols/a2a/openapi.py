"""What the routes of A2A answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slackwater.api.assistants.openapi import BROKEN, BY_NAME
from slackwater.errors import BadRequest, TooManyRuns
from slackwater.protocols.a2a.card import HISTORY_SCOPE
from slackwater.web.openapi import rpc
from slackwater.web.openapi.parameters import ASSISTANT, MOMENT, RUN, THREAD
from slackwater.web.openapi.pieces import Operation, Response
from slackwater.web.openapi.rpc import RpcMessage, RpcResponse

TAG = "Assistants as agents: A2A 1.0 and 0.3 over JSON-RPC."

_URL = f"https://example.com/a2a/{ASSISTANT}"
_CARD = Response(
    "The card.",
    dict[str, Any],
    {
        "name": "agent",
        "description": "The assistant agent.",
        "version": "0.1.0",
        "url": _URL,
        "preferredTransport": "JSONRPC",
        "protocolVersion": "0.3.0",
        "supportedInterfaces": [{"url": _URL, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}],
        "capabilities": {"streaming": True, "pushNotifications": False},
        "defaultInputModes": ["text/plain", "application/json"],
        "defaultOutputModes": ["text/plain", "application/json"],
        "skills": [],
    },
)
_TASK = {
    "id": f"{THREAD}:{RUN}",
    "contextId": THREAD,
    "status": {"state": "TASK_STATE_COMPLETED", "timestamp": MOMENT},
}
_EVENTS = """event: message
data: {"jsonrpc":"2.0","id":1,"result":{"statusUpdate":{"status":{"state":"TASK_STATE_WORKING"}}}}
id: 1-2

"""
_SAID = {"message": {"messageId": "m-1", "role": "ROLE_USER", "parts": [{"text": "What is the tide?"}]}}
_ID = {"assistant_id": BY_NAME}

OPERATIONS: Mapping[str, Operation] = {
    "GET /.well-known/agent-card.json": Operation(
        id="get_root_agent_card",
        responses={200: _CARD},
        errors=(BadRequest, *BROKEN),
        parameters={"assistant_id": {**BY_NAME, "required": True}},
    ),
    "GET /a2a/{assistant_id}": Operation(
        id="get_agent", responses={200: _CARD}, errors=BROKEN, parameters=_ID
    ),
    "GET /a2a/{assistant_id}/.well-known/agent-card.json": Operation(
        id="get_agent_card", responses={200: _CARD}, errors=BROKEN, parameters=_ID
    ),
    "POST /a2a/{assistant_id}": Operation(
        id="a2a",
        body=RpcMessage,
        bodies={
            "a message": rpc.request("SendMessage", _SAID),
            "what became of it": rpc.request("GetTask", {"id": _TASK["id"]}),
        },
        responses={
            200: Response(
                "The response, or an error.", RpcResponse, rpc.result({"task": _TASK}), events=_EVENTS
            ),
            202: Response("The message expects no response."),
        },
        errors=(*BROKEN, TooManyRuns),
        parameters={
            **_ID,
            HISTORY_SCOPE: {
                "description": "Whether a task's history covers the task or its whole context.",
                "schema": {"type": "string", "enum": ["context", "task"], "default": "context"},
            },
            "A2A-Version": {
                "description": "The protocol version that the client uses.",
                "example": "1.0",
            },
        },
    ),
}
