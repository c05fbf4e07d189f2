"""Wake-ups: a message to the queue that the function consumes, or an invocation of itself.

They only say that there is work. Rows are the truth: one that is lost or doubled does no harm.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from slackwater.aws import clients
from slackwater.kit.imports import run_in_import_thread
from slackwater.runtime.queue.wakeups import WakeError, Waker
from slackwater.settings import Settings

BODY = json.dumps({"task": "work"})
BATCH = 10
"""SQS takes no more messages at a time."""


def waker_of(settings: Settings) -> Waker | None:
    """Who wakes others through AWS; None where the sweep finds the work."""
    match settings.handover_by:
        case "sqs":
            assert settings.queue_url is not None  # the settings have seen to it
            return QueueWaker(settings.queue_url)
        case "invoke":
            return FunctionWaker(this_function())
        case "sweep":
            return None


class QueueWaker:
    """Sends messages to an SQS queue."""

    def __init__(self, url: str) -> None:
        self._url = url
        region = re.match(r"https://sqs\.([a-z0-9-]+)\.", url)
        self._region = region[1] if region else None

    async def prepare(self) -> None:
        """Import boto3 and make the client: 0.3 s, and several times that in a small environment."""
        await run_in_import_thread(lambda: _client("sqs", self._region))

    async def wake(self, count: int) -> None:
        """Send `count` messages. Raises WakeError."""
        for first in range(0, count, BATCH):
            await clients.in_thread(_raising_wake_error, self._send, min(BATCH, count - first))

    def _send(self, count: int) -> None:
        queue = clients.client("sqs", self._region)
        if count == 1:
            queue.send_message(QueueUrl=self._url, MessageBody=BODY)
            return
        entries = [{"Id": str(number), "MessageBody": BODY} for number in range(count)]
        failed = queue.send_message_batch(QueueUrl=self._url, Entries=entries).get("Failed", ())
        if len(failed) == count:
            raise WakeError(failed[0].get("Message") or failed[0]["Code"])


class FunctionWaker:
    """Invokes a Lambda function asynchronously: its own, which takes the work as a new invocation."""

    def __init__(self, function: str) -> None:
        self.function = function
        """Name or ARN; the ARN by which this function was invoked knows the alias, too."""

    async def prepare(self) -> None:
        """Import boto3 and make the client: 0.3 s, and several times that in a small environment."""
        await run_in_import_thread(lambda: _client("lambda", clients.region_of(self.function)))

    async def wake(self, count: int) -> None:
        """Invoke it `count` times. Raises WakeError."""
        results = await asyncio.gather(
            *(clients.in_thread(_raising_wake_error, self._invoke) for _ in range(count)),
            return_exceptions=True,
        )
        failed = [result for result in results if isinstance(result, BaseException)]
        if len(failed) == count:
            raise failed[0]

    def _invoke(self) -> None:
        clients.client("lambda", clients.region_of(self.function)).invoke(
            FunctionName=self.function, InvocationType="Event", Payload=BODY.encode()
        )


def _client(service: str, region: str | None) -> None:
    from botocore.exceptions import BotoCoreError

    with suppress(BotoCoreError):  # without a region, say: the first wake-up tells
        clients.client(service, region)


def _raising_wake_error(call: Callable[..., None], *arguments: Any) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        call(*arguments)
    except (BotoCoreError, ClientError) as error:
        raise WakeError(str(error)) from error


def this_function() -> str:
    """The function that this environment is one of, in the version that it runs."""
    name, version = (
        os.environ.get("AWS_LAMBDA_FUNCTION_NAME", ""),
        os.environ.get("AWS_LAMBDA_FUNCTION_VERSION"),
    )
    return f"{name}:{version}" if version and version != "$LATEST" else name
