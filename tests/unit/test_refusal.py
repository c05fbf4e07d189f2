"""One error is one answer, whoever gives it: a route, what stands before the routes, a WebSocket, AWS Lambda."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
from fastapi import FastAPI
from starlette.types import Message, Scope

from slackwater import errors
from slackwater.errors import ApiError, NotFound, StillRunning
from slackwater.kit.refusal import Refusal, absent, refuse
from slackwater.web.http import install_error_handlers
from slackwater.web.security_headers import secured
from slackwater_lambda.http import response_of

Told = tuple[int, dict[str, str], bytes]

HTTP: Scope = {
    "type": "http",
    "asgi": {"version": "3.0"},
    "http_version": "1.1",
    "method": "GET",
    "path": "/",
    "raw_path": b"/",
    "query_string": b"",
    "headers": [],
    "state": {},
}


def every_error() -> Iterator[ApiError]:
    """One of each kind, and what is harder to write down."""
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, ApiError):
            if kind is StillRunning:
                yield StillRunning(f"/threads/{uuid4()}/runs/{uuid4()}/join?cancel_on_disconnect=1")
            elif kind is errors.ResponseTooLarge:
                yield errors.ResponseTooLarge(7_000_000, 6_000_000)
            else:
                yield kind()
    yield ApiError("a „quoted“ line\nand another: \x00 \u2028")


ERRORS = list(every_error())


class Sent:
    """What an ASGI application sends to a client that has nothing to say."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def send(self, message: Message) -> None:
        self.messages.append(message)

    async def receive(self) -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    def told(self) -> Told:
        begin, *rest = self.messages
        body = b"".join(message.get("body", b"") for message in rest)
        headers = {name.decode(): value.decode() for name, value in begin["headers"]}
        assert len(headers) == len(begin["headers"])
        assert int(headers.pop("content-length")) == len(body)
        return begin["status"], headers, body


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_an_error_is_the_same_answer_wherever_it_is_given(error: ApiError) -> None:
    app = FastAPI()
    install_error_handlers(app)

    @app.get("/")
    async def fails() -> None:
        raise error

    route, before, from_lambda = Sent(), Sent(), response_of(error)
    await app(dict(HTTP), route.receive, secured(HTTP, route.send))
    await refuse(error, HTTP, before.receive, secured(HTTP, before.send))

    lambdas = {name.decode(): value.decode() for name, value in from_lambda["headers"]}
    assert route.told() == before.told() == (from_lambda["status"], lambdas, from_lambda["body"])
    assert before.told()[0] == error.status
    assert (
        before.told()[1].items()
        >= {
            "content-type": "application/json",
            **{name.lower(): value for name, value in error.headers.items()},
        }.items()
    )


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_a_web_socket_is_told_the_same_status_and_what_fits_of_the_message(error: ApiError) -> None:
    socket = Sent()

    await refuse(error, {"type": "websocket"}, socket.receive, socket.send)

    accepted, closed = socket.messages
    assert accepted == {"type": "websocket.accept"}
    assert closed["code"] == 4000 + error.status
    assert error.message.startswith(closed["reason"])
    assert min(len(error.message.encode()), 120) <= len(closed["reason"].encode()) <= 123


async def test_where_nothing_is_the_answer_is_that_of_a_route_that_finds_nothing() -> None:
    app = FastAPI()
    install_error_handlers(app)
    before, inside, found_nothing = Sent(), Sent(), Sent()

    await absent(HTTP, before.receive, before.send)
    await app(dict(HTTP), inside.receive, inside.send)
    await refuse(NotFound(), HTTP, found_nothing.receive, found_nothing.send)

    assert before.told() == inside.told() == found_nothing.told()


def test_a_protocol_without_statuses_is_told_status_and_message_in_one_string() -> None:
    assert str(Refusal.of(errors.DatabaseSilent())) == "503: The database does not answer: try again."
