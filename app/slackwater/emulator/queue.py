"""The consumer of a queue, like Lambda's event source mapping: messages become events, and those that succeed are deleted.

The only module of the emulator that calls an AWS service, or a local stand-in for one.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from slackwater.emulator.events import ACCOUNT
from slackwater.emulator.function import REGION
from slackwater.errors import SettingsError

if TYPE_CHECKING:
    from slackwater.emulator.environment import InvocationResult
    from slackwater.emulator.fleet import Fleet

log = logging.getLogger(__name__)

BATCH = 10
WAIT_SECONDS = 1
"""Duration of one long poll. A stop waits for it."""
RETRY_SECONDS = 1.0


def endpoint() -> str:
    """The address of SQS. Raises SettingsError if it is not set, so that AWS is never called by accident."""
    for name in ("AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL"):
        if url := os.environ.get(name):
            return url
    raise SettingsError(
        "Only a local stand-in for SQS can be used as a queue: set AWS_ENDPOINT_URL_SQS to its address, such as "
        "http://127.0.0.1:5000 for `moto_server`."
    )


class Queue:
    """Polls one queue and invokes the function with its messages."""

    def __init__(self, url: str, *, concurrency: int) -> None:
        self.url = url
        self._concurrency = concurrency
        self._client: Any = None

    async def consume(self, fleet: Fleet) -> None:
        """Run until cancelled. Batches in progress are then left to be redelivered."""
        self._client = await asyncio.to_thread(self._connect)
        slots = asyncio.Semaphore(self._concurrency)
        async with asyncio.TaskGroup() as batches:
            while True:
                await slots.acquire()
                messages = await self._receive()
                if not messages:
                    slots.release()
                    continue
                batch = batches.create_task(self._process(fleet, messages), name="queue-batch")
                batch.add_done_callback(lambda _: slots.release())

    def _connect(self) -> Any:
        import boto3
        from botocore.config import Config

        return boto3.client(
            "sqs",
            endpoint_url=endpoint(),
            region_name=REGION,
            aws_access_key_id="local",
            aws_secret_access_key="local",  # noqa: S106 - which the emulated queue does not look at
            config=Config(
                connect_timeout=2, read_timeout=WAIT_SECONDS + 5, retries={"total_max_attempts": 1}
            ),
        )

    async def _receive(self) -> list[dict[str, Any]]:
        try:
            response = await asyncio.to_thread(
                self._client.receive_message,
                QueueUrl=self.url,
                MaxNumberOfMessages=BATCH,
                WaitTimeSeconds=WAIT_SECONDS,
                AttributeNames=["All"],
                MessageAttributeNames=["All"],
            )
        except Exception as error:  # botocore's errors have no common base but this one
            log.warning(
                "the queue does not answer", extra={"event": "emulator.queue_silent", "error": repr(error)}
            )
            await asyncio.sleep(RETRY_SECONDS)
            return []
        messages: list[dict[str, Any]] = response.get("Messages", [])
        return messages

    async def _process(self, fleet: Fleet, messages: Sequence[Mapping[str, Any]]) -> None:
        outcome = await fleet.invoke(orjson.dumps(event_of(messages, self.url)))
        done = succeeded(messages, outcome)
        if len(done) < len(messages):
            log.warning(
                "messages failed and are delivered again",
                extra={"event": "emulator.messages_failed", "count": len(messages) - len(done)},
            )
        if done:
            entries = [
                {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                for number, message in enumerate(done)
            ]
            try:
                await asyncio.to_thread(self._client.delete_message_batch, QueueUrl=self.url, Entries=entries)
            except Exception as error:  # as above; they are redelivered, and find their work done
                log.warning(
                    "the queue does not answer",
                    extra={"event": "emulator.queue_silent", "error": repr(error)},
                )


def event_of(messages: Sequence[Mapping[str, Any]], url: str) -> dict[str, Any]:
    """The event for a batch of messages as boto3 returns them."""
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{url.rstrip('/').rpartition('/')[2]}"
    return {
        "Records": [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message.get("Attributes", {}),
                "messageAttributes": {
                    name: {f"{key[0].lower()}{key[1:]}": item for key, item in value.items()}
                    for name, value in message.get("MessageAttributes", {}).items()
                },
                "md5OfBody": message.get("MD5OfBody", ""),
                "eventSource": "aws:sqs",
                "eventSourceARN": arn,
                "awsRegion": REGION,
            }
            for message in messages
        ]
    }


def succeeded(messages: Sequence[Mapping[str, Any]], outcome: InvocationResult) -> list[Mapping[str, Any]]:
    """The messages that need not be redelivered, by the rules of `ReportBatchItemFailures`."""
    if outcome.error is not None:
        return []
    try:
        result = orjson.loads(outcome.payload)
    except orjson.JSONDecodeError:
        return []
    failures = result.get("batchItemFailures") if isinstance(result, dict) else None
    if not failures:
        return list(messages)
    failed = {item.get("itemIdentifier") if isinstance(item, dict) else None for item in failures}
    # An unknown identifier fails the whole batch.
    if not failed <= {message["MessageId"] for message in messages}:
        return []
    return [message for message in messages if message["MessageId"] not in failed]
