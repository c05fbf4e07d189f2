"""`slackwater lambda --queue-url`: messages of a real queue service become events."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.emulator.test_gateway import twin_of
from tests.support.amazon import amazon


@pytest.fixture(scope="module")
def sqs() -> Iterator[Any]:
    """A client of moto's SQS."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with amazon() as url:
        yield boto3.client(
            "sqs",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="x",
            aws_secret_access_key="x",
        )


async def test_messages_that_fail_come_again_and_the_others_do_not(sqs: Any, tmp_path: Path) -> None:
    queue = sqs.create_queue(QueueName="tides", Attributes={"VisibilityTimeout": "2"})["QueueUrl"]
    bodies = {"note": "ebb"}, {"note": "flood", "fail": True}
    entries = [{"Id": str(n), "MessageBody": json.dumps(body)} for n, body in enumerate(bodies)]

    env = {"AWS_ENDPOINT_URL_SQS": sqs.meta.endpoint_url}
    async with twin_of(tmp_path, "--queue-url", queue, env=env) as twin:
        # GIVEN an environment that is there: its start might take longer than a message stays invisible
        assert (await twin.do("echo")).status_code == 200
        await asyncio.to_thread(sqs.send_message_batch, QueueUrl=queue, Entries=entries)
        await twin.until_noted("ebb 1", "flood 1", "flood 2", "flood 3")

    assert "ebb 2" not in twin.noted()
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    left = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    assert sum(int(count) for count in left.values()) == 1


async def test_a_queue_that_does_not_answer_ends_nothing(sqs: Any, tmp_path: Path) -> None:
    env = {"AWS_ENDPOINT_URL_SQS": "http://127.0.0.1:1"}

    async with twin_of(tmp_path, "--queue-url", "http://127.0.0.1:1/q", env=env) as twin:
        while "the queue does not answer" not in twin.server.tail():
            await asyncio.sleep(0.05)
        assert (await twin.do("echo")).status_code == 200
