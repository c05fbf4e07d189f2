"""JSON-RPC 2.0 over HTTP, as MCP and A2A speak it: one request in, one answer out; no batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ValidationError

from slackwater.errors import ApiError
from slackwater.kit import json_format, sse

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
GOES_ON = -32000
"""Of those left to servers: the work goes on, and this server may not wait for it any longer."""

Id = str | int | float | None

Params = TypeVar("Params", bound=BaseModel)


class RpcError(Exception):
    """What is wrong with a call, for its caller."""

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    @classmethod
    def of(cls, error: ApiError) -> RpcError:
        """A refusal of what the call asked for."""
        return cls(INVALID_PARAMS, error.message)


@dataclass(frozen=True, slots=True)
class Call:
    """A request; `expects` is False for notifications and for answers, which get none."""

    id: Id
    method: str
    params: dict[str, Any]
    expects: bool = True

    def result(self, value: object) -> dict[str, Any]:
        """The response."""
        return {"jsonrpc": "2.0", "id": self.id, "result": value}

    def failure(self, error: RpcError) -> dict[str, Any]:
        """The answer of a call that failed."""
        return failure(self.id, error)

    def read(self, model: type[Params]) -> Params:
        """The parameters. Raises RpcError."""
        try:
            return model.model_validate(self.params)
        except ValidationError as error:
            problems = [
                f"{'.'.join(map(str, p['loc']))}: {p['msg'].removeprefix('Value error, ')}"
                for p in error.errors()
            ]
            raise RpcError(INVALID_PARAMS, f"params.{problems[0]}") from None


def failure(call_id: Id, error: RpcError) -> dict[str, Any]:
    """The response to a call that failed, or that could not be parsed (`call_id` None)."""
    body: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.data is not None:
        body["data"] = error.data
    return {"jsonrpc": "2.0", "id": call_id, "error": body}


async def read(request: Request) -> Call:
    """The call in a request's body. Raises RpcError, whose code says that there is none."""
    try:
        body = await request.json()
    except orjson.JSONDecodeError:
        raise RpcError(PARSE_ERROR, "The body is not JSON") from None
    if not isinstance(body, dict) or body.get("jsonrpc") != "2.0":
        raise RpcError(
            INVALID_REQUEST, "The body must be one JSON-RPC 2.0 message: an object with jsonrpc '2.0'"
        )
    call_id, method, params = body.get("id"), body.get("method"), body.get("params")
    if isinstance(call_id, bool) or not isinstance(call_id, str | int | float | None):
        raise RpcError(INVALID_REQUEST, "id: must be a string or a number")
    if method is None and ("result" in body or "error" in body):
        return Call(call_id, "", {}, expects=False)
    if not isinstance(method, str):
        raise RpcError(INVALID_REQUEST, "method: must be a string")
    if params is not None and not isinstance(params, dict):
        raise RpcError(INVALID_PARAMS, "params: must be an object")
    return Call(call_id, method, params or {}, expects="id" in body)


def frame(answer: object, event_id: str | None = None) -> bytes:
    """An answer as a server-sent event."""
    return sse.frame("message", json_format.dumps(answer), event_id)
