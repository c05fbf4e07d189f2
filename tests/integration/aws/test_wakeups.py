"""Wake-ups through AWS: few, in time, and no harm when they are lost."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest

from slackwater.aws import clients
from slackwater.aws.wakeups import BODY, FunctionWaker, QueueWaker, this_function, waker_of
from slackwater.postgres.pool import Database
from slackwater.runtime.queue.wakeups import MAX_WAKES, WakeError, WakeUps
from slackwater.settings import Settings


def received(sqs: Any, url: str) -> list[Any]:
    """The bodies of every message, taken out of the queue."""
    bodies = []
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            bodies.append(json.loads(message["Body"]))
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return bodies


@pytest.mark.parametrize("count", [1, 10, 25])
async def test_messages_say_that_there_is_work(sqs: Any, queue_url: str, count: int) -> None:
    await QueueWaker(queue_url).wake(count)

    assert received(sqs, queue_url) == [{"task": "work"}] * count


async def test_a_hundred_hand_overs_are_few_messages(database: Database, sqs: Any, queue_url: str) -> None:
    wakeups = WakeUps(database, notify=False, waker=QueueWaker(queue_url))
    for _ in range(100):
        wakeups.send()
    await wakeups.flush(60)
    assert len(received(sqs, queue_url)) == 10

    # AND those that end while a message is on its way are not forgotten
    wakeups.send()
    await asyncio.sleep(0)
    for _ in range(14):
        wakeups.send()
    await wakeups.flush(60)
    assert len(received(sqs, queue_url)) == 3

    # AND however many there are
    wakeups.send(1_000_000)
    await wakeups.flush(60)
    assert len(received(sqs, queue_url)) == MAX_WAKES


async def test_a_queue_that_is_not_there_is_a_warning(
    database: Database, queue_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    wakeups = WakeUps(database, waker=QueueWaker(f"{queue_url}-gone"))
    with caplog.at_level(logging.WARNING, "slackwater"):
        wakeups.send()
        await wakeups.flush(60)

    [record] = [record for record in caplog.records if record.name == "slackwater.runtime.queue.wakeups"]
    assert (record.__dict__["event"], record.__dict__["runs"]) == ("wake.lost", 1)
    # AND the next one is tried again
    wakeups.send()
    await wakeups.flush(60)
    assert len([r for r in caplog.records if r.name == "slackwater.runtime.queue.wakeups"]) == 2


async def test_a_stop_does_not_wait_for_an_aws_that_does_not_answer(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel accepts, and nobody says anything
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        monkeypatch.setattr(clients, "READ_SECONDS", 3)
        clients.forget()
        wakeups = WakeUps(database, waker=QueueWaker(f"{url}/1/wakeups"))
        wakeups.send()
        started = time.monotonic()

        await wakeups.flush(0.2)

        assert time.monotonic() - started < 3
        # AND by itself it gives up soon
        async with asyncio.timeout(30):
            await wakeups.flush(60)


async def test_a_connection_that_has_died_in_the_freezer_costs_no_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    digest = hashlib.md5(BODY.encode(), usedforsecurity=False).hexdigest()
    answer = json.dumps({"MessageId": "1", "MD5OfMessageBody": digest}).encode()
    served = 0
    lines: list[tuple[Any, asyncio.StreamWriter]] = []

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one request, and is silent then."""
        nonlocal served
        lines.append((asyncio.current_task(), writer))
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer))
        served += 1
        await reader.read()

    server = await asyncio.start_server(once, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    clients.forget()
    waker = QueueWaker(f"{url}/1/wakeups")
    await waker.wake(1)

    # WHEN the environment is thawed
    for key in clients._used:
        clients._used[key] -= 100
    began = time.monotonic()
    await waker.wake(1)

    # THEN it does not wait for the answer of a connection that is gone
    assert served == 2
    assert time.monotonic() - began < clients.READ_SECONDS - 1
    server.close()
    for task, writer in lines:
        writer.close()
        await task


async def test_the_first_wake_up_does_not_wait_for_an_import(
    database: Database, sqs: Any, queue_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When an environment is taken away there are 0.3 s, and importing boto3 and making a client takes longer."""
    made: list[str] = []
    client = clients.client
    monkeypatch.setattr(clients, "client", lambda name, *more: (made.append(name), client(name, *more))[1])
    wakeups = WakeUps(database, waker=QueueWaker(queue_url))
    # GIVEN runs that have begun
    for _ in range(3):
        wakeups.prepare()
    await wakeups.flush(60)
    assert made == ["sqs"]

    # WHEN one is handed over THEN nothing has to be made any more
    monkeypatch.setattr(boto3.session, "Session", None)
    wakeups.send()
    await wakeups.flush(60)

    assert len(received(sqs, queue_url)) == 1


async def test_what_cannot_be_prepared_is_told_by_the_first_wake_up(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    clients.forget()
    wakeups = WakeUps(database, waker=QueueWaker("http://127.0.0.1:1/q"))
    with caplog.at_level(logging.WARNING, "slackwater"):
        wakeups.prepare()
        wakeups.send()
        await wakeups.flush(60)

    assert "region" in caplog.text


async def test_sync_nodes_do_not_hold_up_a_wake_up(sqs: Any, queue_url: str) -> None:
    """A hundred of them may occupy every thread of the loop's executor."""
    loop, let_go = asyncio.get_running_loop(), threading.Event()
    loop.set_default_executor(ThreadPoolExecutor(1))
    node = asyncio.create_task(asyncio.to_thread(let_go.wait, 10))
    await asyncio.sleep(0.05)
    try:
        async with asyncio.timeout(9):
            await QueueWaker(queue_url).wake(1)
    finally:
        let_go.set()
        await node
    assert len(received(sqs, queue_url)) == 1


@pytest.fixture
def invocations(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str, bytes]]]:
    """What arrives at Lambda's API: path, invocation type, payload. A function named `full` is throttled."""
    arrived: list[tuple[str, str, bytes]] = []

    class Api(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            payload = self.rfile.read(int(self.headers["Content-Length"]))
            arrived.append((self.path, self.headers["X-Amz-Invocation-Type"], payload))
            self.send_response(429 if "/full/" in self.path else 202)
            self.send_header("x-amzn-ErrorType", "TooManyRequestsException:")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        clients.forget()
        yield arrived
        server.shutdown()


async def test_a_function_invokes_itself_without_waiting_for_the_answer(
    invocations: list[tuple[str, str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "agents")
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_VERSION", "7")

    await FunctionWaker(this_function()).wake(3)

    path = "/2015-03-31/functions/agents%3A7/invocations"
    assert invocations == [(path, "Event", b'{"task": "work"}')] * 3


async def test_a_function_that_takes_nothing_is_a_wake_up_lost(
    invocations: list[tuple[str, str, bytes]],
) -> None:
    with pytest.raises(WakeError):
        await FunctionWaker("full").wake(2)

    assert len(invocations) == 2 * clients.ATTEMPTS


def test_the_settings_say_who_is_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert waker_of(Settings.load()) is None
    assert isinstance(
        waker_of(Settings.load(queue_url="https://sqs.eu-west-1.amazonaws.com/1/q")), QueueWaker
    )
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001")
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "agents")
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
    waker = waker_of(Settings.load(handover="invoke"))
    assert isinstance(waker, FunctionWaker)
    assert waker.function == "agents"
