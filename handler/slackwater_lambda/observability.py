"""What is recorded about an invocation: in every log line, in the metrics and in a trace."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from slackwater import telemetry
from slackwater.telemetry import logs, metrics, tracing
from slackwater.telemetry.metrics import Metric

if TYPE_CHECKING:
    from slackwater_lambda.invocation import Invocation

_first = True


def begin(invocation: Invocation) -> None:
    """From now on, log lines belong to this invocation."""
    cold = _is_cold()
    if cold:
        metrics.count(Metric.COLD_START)
    request_id = invocation.request_id
    logs.set_invocation(logs.InvocationFields(request_id, request_id, cold, invocation.deadline))


def _is_cold() -> bool:
    """Whether the caller waited for the initialisation: it is the first invocation, and the environment was not provisioned."""
    global _first
    first, _first = _first, False
    return first and os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") != "provisioned-concurrency"


def correlate(event: Any) -> None:
    """Add the sender's own id of the event to the log lines."""
    if correlation_id := correlation_of(event):
        logs.correlate(correlation_id)


def correlation_of(event: Any) -> str:
    """The id of the gateway's request, the load balancer's trace, the message or the scheduled event; or ''."""
    if not isinstance(event, Mapping):
        return ""
    request, records = event.get("requestContext"), event.get("Records")
    if isinstance(request, Mapping):
        found = request.get("requestId") or (event.get("headers") or {}).get("x-amzn-trace-id")
    elif isinstance(records, list) and records and isinstance(records[0], Mapping):
        found = records[0].get("messageId")
    else:
        found = event.get("id")
    return str(found or "")


def end(invocation: Invocation) -> None:
    """End the invocation. When this returns everything has been written, and the environment may be frozen."""
    tracing.record("invocation", invocation.began)
    telemetry.flush()
    logs.set_invocation(None)
