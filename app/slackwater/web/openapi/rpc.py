"""JSON-RPC 2.0, which MCP and A2A speak over HTTP."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from slackwater.web.openapi.pieces import PART, Json, Shape


class RpcMessage(BaseModel):
    """A request; without an `id` it expects no response."""

    jsonrpc: Literal["2.0"]
    id: str | int | float | None = None
    method: str
    params: dict[str, Any] | None = None


class RpcErrorObject(Shape):
    """What is wrong with a request."""

    code: int
    message: str
    data: Any = None


class RpcResponse(Shape):
    """The response to a request: its `result`, or an `error`."""

    model_config = PART

    jsonrpc: Literal["2.0"]
    id: str | int | float | None
    result: dict[str, Any]
    error: RpcErrorObject


def request(method: str, params: Json) -> Json:
    """An example of a request."""
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def result(value: Json) -> Json:
    """An example of its answer."""
    return {"jsonrpc": "2.0", "id": 1, "result": value}


def failure(code: int, message: str) -> Json:
    """An example of the answer to what is wrong."""
    return {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}}
