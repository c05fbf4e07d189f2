"""What becomes of an ASGI application's messages on the way to the Runtime API."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from slackwater.errors import Draining
from slackwater_lambda import runtime_api
from slackwater_lambda.response_stream import ResponseStream
from tests.support.runtime_api import Invocation, RuntimeApi

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
LOTS = bytes(100_000)


def part(text: bytes, *, last: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": text, "more_body": not last}


@pytest.fixture
async def api() -> AsyncIterator[RuntimeApi]:
    async with RuntimeApi().serve() as api:
        yield api


async def answered(
    api: RuntimeApi, app: Any, *, seconds: float = 5, body: bytes = b"", reads: bool = True
) -> Invocation:
    invocation = api.expect(reads=reads)
    answer = ResponseStream(
        runtime_api.RuntimeApi(api.address), invocation.request_id, body, time.monotonic() + seconds
    )
    await answer.serve(app, {"type": "http"})
    return invocation


async def test_status_headers_and_cookies_come_before_the_body(api: RuntimeApi) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [
            (b"Location", b"/here"),
            (b"vary", b"a"),
            (b"vary", b"b"),
            (b"set-cookie", b"one=1"),
            (b"set-cookie", b"two=2"),
            (b"content-length", b"2"),
            (b"connection", b"close"),
        ]
        await send({"type": "http.response.start", "status": 201, "headers": headers})
        await send(part(b"ok", last=True))

    invocation = await answered(api, app)

    assert invocation.ended == "response"
    assert invocation.answer == {
        "statusCode": 201,
        # How long the body is, and what becomes of the connection, is for the server in front to say.
        "headers": {"location": "/here", "vary": "a, b"},
        "cookies": ["one=1", "two=2"],
    }
    assert invocation.content == b"ok"
    assert invocation.error is None


async def test_the_application_gets_the_body_and_never_a_disconnect_before_its_answer_is_complete(
    api: RuntimeApi,
) -> None:
    messages: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        messages.append(await receive())
        waiting = asyncio.create_task(receive())
        await send(START)
        await send(part(b"data"))
        assert not waiting.done()
        await send(part(b"", last=True))
        messages.append(await waiting)

    invocation = await answered(api, app, body=b"question")

    assert messages == [
        {"type": "http.request", "body": b"question", "more_body": False},
        {"type": "http.disconnect"},
    ]
    assert invocation.content == b"data"


async def test_each_message_goes_out_before_the_next_one_is_made(api: RuntimeApi) -> None:
    invocation = api.expect()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        for number in range(5):
            await send(part(b"%d" % number))
            await invocation.until(lambda seen: seen.content.endswith(b"%d" % number))  # noqa: B023
        await send(part(b"", last=True))

    answer = ResponseStream(
        runtime_api.RuntimeApi(api.address), invocation.request_id, b"", time.monotonic() + 5
    )
    await answer.serve(app, {"type": "http"})

    assert (invocation.ended, invocation.content) == ("response", b"01234")


async def test_a_failure_in_the_middle_is_said_by_trailers(
    api: RuntimeApi, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(part(b"half"))
        raise ValueError("no more")

    invocation = await answered(api, app)

    assert (invocation.ended, invocation.content) == ("response", b"half")
    assert invocation.error is not None
    kind, body = invocation.error
    assert kind == "Function.ValueError"
    assert (body["errorMessage"], body["errorType"]) == ("no more", "ValueError")
    assert any('raise ValueError("no more")' in line for line in body["stackTrace"])
    assert "no more" in caplog.text


async def test_an_application_that_returns_early_has_cut_its_stream(
    api: RuntimeApi, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(part(b"half"))

    invocation = await answered(api, app)

    assert invocation.content == b"half"
    assert invocation.error is not None
    assert invocation.error[0] == "Function.IncompleteResponse"
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("failing", [True, False])
async def test_without_an_answer_of_the_application_it_is_500(api: RuntimeApi, *, failing: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if failing:
            raise ValueError("nothing to say")

    invocation = await answered(api, app)

    assert invocation.answer["statusCode"] == 500
    assert json.loads(invocation.content) == {"detail": "Internal Server Error"}
    assert invocation.error is None


async def test_a_failure_after_the_answer_changes_nothing_and_is_logged(
    api: RuntimeApi, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(part(b"all", last=True))
        raise ValueError("too late")

    invocation = await answered(api, app)

    assert (invocation.content, invocation.error) == (b"all", None)
    assert "too late" in caplog.text


@pytest.mark.parametrize("begun", [False, True])
async def test_an_answer_ends_at_its_time(api: RuntimeApi, *, begun: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if begun:
            await send(START)
            await send(part(b"half"))
        await asyncio.Event().wait()

    invocation = await answered(api, app, seconds=1.5 if begun else 0.2)

    assert invocation.ended == "response"
    if begun:
        assert invocation.error is not None
        assert invocation.error[0] == "Function.Overdue"
    else:
        assert invocation.answer["statusCode"] == 504
        assert invocation.error is None


async def test_an_application_is_as_slow_as_its_reader(api: RuntimeApi) -> None:
    """GIVEN a client that reads nothing WHEN the answer is large THEN most of it is not even made."""
    invocation = api.expect(reads=False)
    made = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal made
        await send(START)
        for _ in range(300):
            await send(part(LOTS))
            await asyncio.sleep(0)
            made += 1
        await send(part(b"", last=True))

    answer = ResponseStream(
        runtime_api.RuntimeApi(api.address), invocation.request_id, b"", time.monotonic() + 30
    )
    serving = asyncio.create_task(answer.serve(app, {"type": "http"}))
    before = -1
    while made != before or made == 0:
        before = made
        await asyncio.sleep(0.2)

    assert made < 200  # what sockets buffer is a few MB
    invocation.reading.set()
    await serving
    assert len(invocation.content) == 300 * len(LOTS)


async def test_a_reader_that_never_reads_does_not_hold_an_answer_beyond_its_time(
    api: RuntimeApi, caplog: pytest.LogCaptureFixture
) -> None:
    invocation = api.expect(reads=False)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        while True:
            await send(part(LOTS))
            await asyncio.sleep(0)

    answer = ResponseStream(
        runtime_api.RuntimeApi(api.address), invocation.request_id, b"", time.monotonic() + 1.5
    )
    async with asyncio.timeout(20):
        await answer.serve(app, {"type": "http"})

    invocation.reading.set()
    await invocation.until(lambda invocation: invocation.ended == "truncated")
    assert "the response was not accepted" in caplog.text


async def test_an_error_can_be_given_without_the_application(api: RuntimeApi) -> None:
    invocation = api.expect()

    answer = ResponseStream(
        runtime_api.RuntimeApi(api.address), invocation.request_id, b"", time.monotonic() + 5
    )
    await answer.send_error(Draining())

    assert invocation.answer["statusCode"] == 503
    assert invocation.answer["headers"] == {
        "content-type": "application/json",
        "retry-after": "1",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    }
    assert json.loads(invocation.content) == {"detail": Draining().message}


async def test_two_senders_at_a_time_are_no_trouble(api: RuntimeApi) -> None:
    """A stream's heartbeats are sent by a task of their own."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)

        async def many() -> None:
            for _ in range(50):
                await send(part(b"x" * 50_000))

        await asyncio.gather(many(), many(), many())
        await send(part(b"", last=True))

    invocation = await answered(api, app)

    assert invocation.content == b"x" * 50_000 * 150
