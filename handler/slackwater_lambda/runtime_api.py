"""The parts of the Lambda Runtime API that our own runtime client needs.

Source: AWS, "Lambda runtime API" and "Building a custom runtime", with its part on response streaming.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import time
import traceback
from dataclasses import dataclass
from typing import Any

from slackwater.errors import SlackwaterError

log = logging.getLogger(__name__)

RUNTIME = "/2018-06-01/runtime"
POST_SECONDS = 10.0
ERROR_TYPE = "Lambda-Runtime-Function-Error-Type"
ERROR_BODY = "Lambda-Runtime-Function-Error-Body"


class RuntimeApiError(SlackwaterError):
    """The Runtime API of AWS Lambda has refused to give this runtime an event."""


def _variable(name: str) -> str:
    return os.environ.get(f"AWS_LAMBDA_{name}", "")


@dataclass(frozen=True, slots=True)
class Context:
    """The context object of a handler, with the attribute names of AWS's own client."""

    aws_request_id: str
    invoked_function_arn: str
    deadline_ms: int
    """Since 1970."""
    trace_id: str | None = None
    tenant_id: str | None = None
    client_context: Any = None
    identity: Any = None
    function_name: str = ""
    function_version: str = ""
    memory_limit_in_mb: str = ""
    log_group_name: str = ""
    log_stream_name: str = ""

    @classmethod
    def of(cls, headers: dict[str, str]) -> Context:
        """Parse the headers of an event; their names are in lower case."""
        client, identity = (
            json.loads(headers.get(f"lambda-runtime-{name}") or "null")
            for name in ("client-context", "cognito-identity")
        )
        return cls(
            headers["lambda-runtime-aws-request-id"],
            headers.get("lambda-runtime-invoked-function-arn", ""),
            int(headers["lambda-runtime-deadline-ms"]),
            headers.get("lambda-runtime-trace-id"),
            headers.get("lambda-runtime-aws-tenant-id"),
            client,
            identity,
            function_name=_variable("FUNCTION_NAME"),
            function_version=_variable("FUNCTION_VERSION"),
            memory_limit_in_mb=_variable("FUNCTION_MEMORY_SIZE"),
            log_group_name=_variable("LOG_GROUP_NAME"),
            log_stream_name=_variable("LOG_STREAM_NAME"),
        )

    def get_remaining_time_in_millis(self) -> int:
        return max(0, self.deadline_ms - int(time.time() * 1000))


class RuntimeApi:
    """Blocking calls, each on a connection of its own: between two of them the environment may have been frozen."""

    def __init__(self, address: str) -> None:
        self.address = address
        """host:port"""

    def next(self) -> tuple[Context, bytes]:
        """Wait for an event. Raises RuntimeApiError and OSError: this environment is done with then."""
        status, headers, body = self._call("GET", "/invocation/next")
        if status != 200:
            raise RuntimeApiError(f"The Runtime API answers {status}: {body.decode(errors='replace')}")
        return Context.of(headers), body

    def respond(self, request_id: str, body: bytes) -> None:
        """The result of an invocation, as JSON."""
        self._post(f"/invocation/{request_id}/response", body)

    def fail(self, request_id: str, error: BaseException) -> None:
        """Report that the invocation failed."""
        self._post(f"/invocation/{request_id}/error", describe(error), error_type(error))

    def init_error(self, error: BaseException) -> None:
        """Report that the initialisation failed: there will be no invocations."""
        self._post("/init/error", describe(error), error_type(error))

    def restore_next(self) -> None:
        """Report that a snapshot may be taken. Returns in each copy, once it has been restored."""
        status, _, body = self._call("GET", "/restore/next")
        if status != 200:
            raise RuntimeApiError(f"The Runtime API answers {status}: {body.decode(errors='replace')}")

    def restore_error(self, error: BaseException) -> None:
        self._post("/restore/error", describe(error), error_type(error))

    def _post(self, path: str, body: bytes, kind: str | None = None) -> None:
        headers = {"Content-Type": "application/json"} | ({ERROR_TYPE: kind} if kind else {})
        status, _, answer = self._call("POST", path, body, headers, timeout=POST_SECONDS)
        if status != 202:
            # Too late or too large: Lambda itself tells the caller.
            log.error(
                "the Runtime API answers %s",
                status,
                extra={
                    "event": "runtime_api.refused",
                    "path": path,
                    "answer": answer.decode(errors="replace"),
                },
            )

    def _call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout: float | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.address, timeout=timeout)
        try:
            connection.request(method, RUNTIME + path, body, headers or {})
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        finally:
            connection.close()


def error_type(error: BaseException) -> str:
    """The error type, as `category.reason`, which AWS recommends."""
    return f"Function.{type(error).__name__}"


def describe(error: BaseException) -> bytes:
    """The error as the JSON that Lambda expects."""
    return json.dumps(
        {
            "errorMessage": str(error),
            "errorType": type(error).__name__,
            "stackTrace": traceback.format_tb(error.__traceback__),
        }
    ).encode()
