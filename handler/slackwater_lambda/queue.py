"""A batch of SQS wake-ups. Failed messages are reported one by one, so that only they are redelivered."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response

from slackwater.telemetry import logs
from slackwater_lambda import tasks

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

    from slackwater_lambda.environment import Environment
    from slackwater_lambda.invocation import Invocation


log = logging.getLogger(__name__)


def consume(environment: Environment, invocation: Invocation, event: Mapping[str, Any], context: Any) -> Any:
    """Start each task, then work inline on what is ready: a message is done when its work is stored."""

    environment.open(invocation)

    def begin(record: SQSRecord) -> None:
        logs.correlate(record.message_id)
        try:
            task = tasks.parse_message(record.body)
        except tasks.RefusedMessage as refusal:
            log.error(refusal.message, extra={"event": "queue.refused", "message_id": record.message_id})
            raise  # it is redelivered, and ends in the dead-letter queue, where a person can read it
        environment.run(tasks.begin(environment.services, task, record.message_id), invocation.left())

    failed = process_partial_response(
        event=dict(event),
        record_handler=begin,
        processor=BatchProcessor(EventType.SQS, raise_on_entire_batch_failure=False),
        context=context,
    )
    environment.run(invocation.work(), invocation.left())
    return failed
