"""What kind of event an invocation brings."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from slackwater.errors import SlackwaterError


class Kind(Enum):
    """The sources that the function understands."""

    REQUEST = "request"
    """HTTP API, REST API, Application Load Balancer, Function URL."""
    QUEUE = "queue"
    """A batch of SQS messages, each a task."""
    TASK = "task"
    """EventBridge, Scheduler, the function itself, or a person: one task."""


class UnknownEvent(SlackwaterError):
    """This event is none that Slackwater handles: a request of API Gateway, a load balancer or a Function URL, SQS messages, a schedule, or {"task": …}."""


def kind_of(event: object) -> Kind:
    """Which kind it is. Raises UnknownEvent."""
    if isinstance(event, Mapping):
        if "requestContext" in event:
            return Kind.REQUEST
        records = event.get("Records")
        if isinstance(records, list) and records and all(_from_sqs(record) for record in records):
            return Kind.QUEUE
        if "task" in event or event.get("source") == "aws.events":
            return Kind.TASK
    raise UnknownEvent


def streams(event: object) -> bool:
    """Whether the source of a request passes on an answer while it is being made: Function URL and REST API.

    An HTTP API and a load balancer would take a stream for the whole result, and a strange one.
    """
    if not isinstance(event, Mapping) or not isinstance(event.get("requestContext"), Mapping):
        return False
    request = event["requestContext"]
    if "version" in event:
        return ".lambda-url." in str(request.get("domainName"))
    return "httpMethod" in event and "elb" not in request


def _from_sqs(record: Any) -> bool:
    return isinstance(record, Mapping) and record.get("eventSource") == "aws:sqs"
