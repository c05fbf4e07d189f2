"""What is said of an invocation: in each line of its log, in the metrics, in a trace."""

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
    """From now on the lines are this invocation's."""
    cold = _is_cold()
    if cold:
        metrics.count(Metric.COLD_START)
    request_id = invocation.request_id
    logs.of_invocation(logs.Invocation(request_id, request_id, cold, invocation.deadline))


def _is_cold() -> bool:
    """Whether somebody had to wait for this environment: it is its first invocation, and was not made in advance."""
    global _first
    first, _first = _first, False
    return first and os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") != "provisioned-concurrency"


def correlate(event: Any) -> None:
    """Name in the lines what the sender of the event calls it."""
    if correlation_id := correlation_of(event):
        logs.correlate(correlation_id)


def correlation_of(event: Any) -> str:
    """The gateway's id of the request, the load balancer's of the trace, the message's, or the scheduled event's; or ''."""
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
    """The invocation is over. Everything said of it is out when this returns: the environment may be frozen."""
    tracing.record("invocation", invocation.began)
    telemetry.flush()
    logs.of_invocation(None)
