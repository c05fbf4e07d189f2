"""The bootstrap in a process of its own, against a Runtime API that passes responses on as they come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.conftest import Databases
from tests.handler_streaming.conftest import PROJECT, SETTINGS, complaints, from_url
from tests.support.emulator import request
from tests.support.runtime_api import TRACE, Invocation, StreamingEnvironment, streaming_environment

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def environment(
    databases: Databases, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[StreamingEnvironment]:
    """One for all tests, which is what an environment is for."""
    uri = databases.create(template)
    # A node that does not end is cut early: what comes then has seconds, on a busy machine.
    settings = {**SETTINGS, "SLACKWATER_DATABASE_URI": uri, "SLACKWATER_DRAIN_RESERVE_SECONDS": "2.5"}
    log_file = tmp_path_factory.mktemp("streaming") / "log"
    async with streaming_environment(log_file, folder=PROJECT, env=settings) as environment:
        yield environment
    databases.drop(uri)
    assert complaints(environment, but="boom") == []


async def ask(
    environment: StreamingEnvironment, method: str, path: str, body: object = None, status: int = 200
) -> Any:
    """The JSON of an answer."""
    invocation = await environment.invoke(from_url(method, path, body))
    await invocation.end()
    assert invocation.answer["statusCode"] == status, invocation.content
    return json.loads(invocation.content or b"null")


async def read_until(chunks: AsyncIterator[bytes], text: bytes) -> bytes:
    """What has come when `text` has."""
    read = b""
    async with asyncio.timeout(20):
        while text not in read:
            read += await anext(chunks)
    return read


async def test_events_reach_the_client_while_their_run_goes_on(
    environment: StreamingEnvironment, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    thread = await ask(environment, "POST", "/threads", {})
    body = {"assistant_id": "gated", "input": {"gate": str(gate)}, "stream_mode": ["custom"]}
    invocation = await environment.invoke(
        from_url("POST", f"/threads/{thread['thread_id']}/runs/stream", body)
    )

    chunks = invocation.chunks()
    first = await read_until(chunks, b"before the gate")

    # Only now can the run get any further.
    assert not invocation.ended
    assert b"after the gate" not in first
    gate.touch()
    rest = await read_until(chunks, b"after the gate")
    assert invocation.answer["statusCode"] == 200
    assert invocation.answer["headers"]["content-type"].startswith("text/event-stream")
    assert invocation.answer["headers"]["location"].startswith(f"/threads/{thread['thread_id']}/runs/")
    await invocation.end()
    assert invocation.error is None
    assert invocation.content.startswith(first + rest)


async def test_the_answer_is_out_before_the_environment_is_free(
    environment: StreamingEnvironment, tmp_path: Path
) -> None:
    """GIVEN a run in the background WHEN its request has been answered THEN the extension still holds the environment."""
    gate = tmp_path / "gate"
    api = environment.api
    thread = await ask(environment, "POST", "/threads", {})
    body = {"assistant_id": "gated", "input": {"gate": str(gate)}}
    invocation = await environment.invoke(from_url("POST", f"/threads/{thread['thread_id']}/runs", body))

    await invocation.end()

    number = invocation.request_id
    run = json.loads(invocation.content)
    assert run["status"] in ("pending", "running")
    assert "extension next" not in api.happened[api.happened.index(f"extension invoked {number}") :]
    async with asyncio.timeout(20), api.said:
        await api.said.wait_for(lambda: api.happened[-1] == "next")
    gate.touch()
    await api.idle()
    since = api.happened[api.happened.index(f"response {number}") :]
    assert since == [f"response {number}", "next", "extension next"]
    path = f"/threads/{thread['thread_id']}/runs/{run['run_id']}"
    assert (await ask(environment, "GET", path))["status"] == "success"


async def test_one_environment_answers_many_requests(environment: StreamingEnvironment) -> None:
    pid = environment.process.pid
    for _ in range(10):
        assert (await ask(environment, "GET", "/ok"))["ok"] is True
    await ask(environment, "GET", "/threads/nothing", status=422)
    await ask(environment, "DELETE", f"/threads/{'0' * 8}-0000-4000-8000-{'0' * 12}", status=404)

    assert (environment.process.pid, environment.process.poll()) == (pid, None)
    assert environment.api.happened.count("extension registered") == 1


async def test_requests_without_a_key_are_refused(environment: StreamingEnvironment) -> None:
    event = from_url("POST", "/threads", {})
    del event["headers"]["x-api-key"]

    invocation = await (await environment.invoke(event)).end()

    assert invocation.answer["statusCode"] == 401


async def test_nodes_see_the_trace_of_their_invocation(environment: StreamingEnvironment) -> None:
    values = await ask(environment, "POST", "/runs/wait", {"assistant_id": "trace", "input": {"n": 1}})

    assert values["trace"] == TRACE


async def test_a_rest_api_may_stream_and_an_http_api_or_a_load_balancer_may_not(
    environment: StreamingEnvironment,
) -> None:
    from_http_api = request("GET", "/ok")
    from_rest_api = {
        "resource": "/{proxy+}",
        "path": "/ok",
        "httpMethod": "GET",
        "headers": {"Host": "abc.execute-api.us-east-1.amazonaws.com"},
        "multiValueHeaders": {},
        "queryStringParameters": None,
        "requestContext": {"identity": {"sourceIp": "1.2.3.4"}, "stage": "prod"},
        "body": None,
        "isBase64Encoded": False,
    }
    from_balancer = {
        **from_rest_api,
        "requestContext": {
            "elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:us-east-1:1:targetgroup/x/1"}
        },
        "queryStringParameters": {},
        "headers": {"host": "example.com", "x-forwarded-for": "1.2.3.4"},
    }
    del from_balancer["resource"], from_balancer["multiValueHeaders"]

    streamed = await (await environment.invoke(from_rest_api)).end()
    collected = [await (await environment.invoke(event)).end() for event in (from_http_api, from_balancer)]

    assert (streamed.answer["statusCode"], json.loads(streamed.content)["ok"]) == (200, True)
    for invocation in collected:
        assert invocation.result["statusCode"] == 200
        assert json.loads(invocation.result["body"])["ok"] is True


async def test_tasks_and_messages_are_answered_whole(environment: StreamingEnvironment) -> None:
    task = {"task": "run", "id": "once", "assistant_id": "trace", "input": {"n": 1}}
    messages = [
        {"eventSource": "aws:sqs", "messageId": "good", "body": '{"task": "work"}'},
        {"eventSource": "aws:sqs", "messageId": "bad", "body": "nonsense"},
    ]

    async def result(event: object) -> Any:
        return (await (await environment.invoke(event)).end()).result

    first, second = await result(task), await result(task)
    batch = await result({"Records": messages})

    assert first == second
    assert first["task"] == "run"
    assert batch == {"batchItemFailures": [{"itemIdentifier": "bad"}]}
    run = await ask(environment, "GET", f"/threads/{first['thread_id']}/runs/{first['run_id']}", status=404)
    assert run  # it is the owner `system`'s


@pytest.mark.parametrize(
    ("event", "kind"),
    [({"what": "is this"}, "UnknownEvent"), ({"task": "run"}, "WrongTask"), ([1], "UnknownEvent")],
)
async def test_an_event_that_cannot_be_carried_out_is_an_error(
    environment: StreamingEnvironment, event: object, kind: str
) -> None:
    invocation = await (await environment.invoke(event)).end()

    assert invocation.ended == "error"
    assert invocation.result["errorType"] == kind
    assert invocation.result["errorMessage"]
    assert any("slackwater_lambda/" in line for line in invocation.result["stackTrace"])
    assert invocation.headers["lambda-runtime-function-error-type"] == f"Function.{kind}"
    assert (await ask(environment, "GET", "/ok"))["ok"] is True


async def test_a_stream_ends_cleanly_before_its_invocation_does(
    environment: StreamingEnvironment, tmp_path: Path
) -> None:
    """GIVEN an invocation of eight seconds WHEN its run takes longer THEN the client is sent away in time, with no error."""
    gate = tmp_path / "gate"
    api = environment.api
    thread = await ask(environment, "POST", "/threads", {})
    body = {"assistant_id": "gated", "input": {"gate": str(gate)}, "stream_mode": ["custom"]}
    invocation = await environment.invoke(
        from_url("POST", f"/threads/{thread['thread_id']}/runs/stream", body), seconds=8
    )

    await invocation.end()

    run_id = invocation.answer["headers"]["content-location"].rpartition("/")[2]
    assert invocation.error is None
    assert b"before the gate" in invocation.content
    # The run is handed over in the rest of the time, and shown as one that goes on.
    await api.idle()
    path = f"/threads/{thread['thread_id']}/runs/{run_id}"
    assert (await ask(environment, "GET", path))["status"] in ("pending", "running")
    gate.touch()
    await (await environment.invoke({"task": "work"})).end()
    again = await environment.invoke(from_url("GET", f"{path}/stream", **{"last-event-id": "-1"}), seconds=20)
    await again.end()
    assert b"after the gate" in again.content


def events(invocation: Invocation) -> list[str]:
    """The names of a stream's events."""
    return [
        line.removeprefix("event: ")
        for line in invocation.content.decode().splitlines()
        if line.startswith("event: ")
    ]


async def test_an_error_of_a_run_is_an_event_and_no_failure_of_the_function(
    environment: StreamingEnvironment,
) -> None:
    invocation = await environment.invoke(
        from_url("POST", "/runs/stream", {"assistant_id": "boom", "input": {"n": 1}})
    )

    await invocation.end()

    assert invocation.error is None
    assert events(invocation)[-1] == "error"
