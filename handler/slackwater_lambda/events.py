"""Which kind of event an invocation carries."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from slackwater.errors import SlackwaterError


class EventKind(Enum):
    """The kinds of event that the function handles."""

    REQUEST = "request"
    """HTTP API, REST API, Application Load Balancer, Function URL."""
    QUEUE = "queue"
    """A batch of SQS messages, each a task."""
    TASK = "task"
    """One task, from EventBridge, Scheduler, the function itself or a person."""


class UnknownEvent(SlackwaterError):
    """This event is none that Slackwater handles: a request of API Gateway, a load balancer or a Function URL, SQS messages, a schedule, or {"task": …}."""


def kind_of(event: object) -> EventKind:
    """The kind of an event. Raises UnknownEvent."""
    if isinstance(event, Mapping):
        if "requestContext" in event:
            return EventKind.REQUEST
        records = event.get("Records")
        if isinstance(records, list) and records and all(_from_sqs(record) for record in records):
            return EventKind.QUEUE
        if "task" in event or event.get("source") == "aws.events":
            return EventKind.TASK
    raise UnknownEvent


def supports_streaming(event: object) -> bool:
    """Whether the event source supports response streaming: Function URLs and REST APIs do.

    HTTP APIs and load balancers do not: they would take the stream for an invalid result.
    """
    if not isinstance(event, Mapping) or not isinstance(event.get("requestContext"), Mapping):
        return False
    request = event["requestContext"]
    if "version" in event:
        return ".lambda-url." in str(request.get("domainName"))
    return "httpMethod" in event and "elb" not in request


def _from_sqs(record: Any) -> bool:
    return isinstance(record, Mapping) and record.get("eventSource") == "aws:sqs"
