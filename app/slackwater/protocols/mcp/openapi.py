"""What the routes of MCP answer."""

from __future__ import annotations

from collections.abc import Mapping

from slackwater.errors import BadRequest, NotFound, TooManyRuns
from slackwater.protocols.jsonrpc import INVALID_REQUEST
from slackwater.web.openapi import rpc
from slackwater.web.openapi.pieces import Error, Operation, Response, header
from slackwater.web.openapi.rpc import RpcMessage, RpcResponse

TAG = "Assistants as tools: MCP over streamable HTTP."

_RESULT = rpc.result({"content": [{"type": "text", "text": "{}"}], "structuredContent": {}, "isError": False})
_EVENTS = """id: 0199b6d2-6c1e-7d4a-9c57-0a4f6f5b9d10:0199b6d2-7a90-7b3e-8f21-5c2d8e6f7a01:MQ==
retry: 2000
data:

event: message
data: {"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":false}}

"""

OPERATIONS: Mapping[str, Operation] = {
    "POST /mcp": Operation(
        id="mcp",
        body=RpcMessage,
        bodies={
            "what there is": rpc.request("tools/list", {}),
            "a call": rpc.request(
                "tools/call", {"name": "agent", "arguments": {"messages": "What is the tide?"}}
            ),
        },
        responses={
            200: Response("The response, or an error.", RpcResponse, _RESULT, events=_EVENTS),
            202: Response("The message expects no response."),
            400: Response(
                "The body is not a valid message.",
                RpcResponse,
                rpc.failure(INVALID_REQUEST, "method: must be a string"),
            ),
        },
        errors=(TooManyRuns,),
        parameters={
            "Idempotency-Key": {"schema": {"type": "string"}},
            "MCP-Protocol-Version": {
                "description": "The negotiated protocol version.",
                "example": "2025-11-25",
            },
        },
    ),
    "GET /mcp": Operation(
        id="mcp_resume",
        responses={
            200: Response("The response.", RpcResponse, _RESULT, events=_EVENTS),
            405: Response(
                "`Last-Event-ID` is missing: there is no other stream.",
                Error,
                {"detail": "Method Not Allowed"},
                headers={"Allow": header("What there is.", example="POST")},
            ),
        },
        errors=(BadRequest, NotFound),
        parameters={
            "Last-Event-ID": {
                "description": "The id of the last event received; the response follows it.",
                "example": "0199b6d2-6c1e-7d4a-9c57-0a4f6f5b9d10:0199b6d2-7a90-7b3e-8f21-5c2d8e6f7a01:MQ==",
            }
        },
    ),
    "DELETE /mcp": Operation(id="mcp_end_session", responses={}, errors=(NotFound,), stored=False),
}
