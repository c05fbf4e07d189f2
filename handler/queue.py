"""SQS: a batch of tasks; those that fail are reported one by one, and only they come again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response

from app.telemetry import logs
from handler import tasks
from handler.events import UnknownEvent

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

    from handler.environment import Environment
    from handler.invocation import Invocation


def consume(environment: Environment, invocation: Invocation, event: Mapping[str, Any], context: Any) -> Any:
    """Begin each task, then work on what is ready, inline: a message is done with when its work is stored."""

    environment.open(invocation)

    def begin(record: SQSRecord) -> None:
        logs.correlate(record.message_id)
        body = json.loads(record.body)
        if not isinstance(body, dict):
            raise UnknownEvent
        task = tasks.parse(body)
        environment.run(tasks.begin(environment.services, task, record.message_id), invocation.left())

    failed = process_partial_response(
        event=dict(event),
        record_handler=begin,
        processor=BatchProcessor(EventType.SQS, raise_on_entire_batch_failure=False),
        context=context,
    )
    environment.run(invocation.work(), invocation.left())
    return failed
