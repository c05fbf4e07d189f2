"""Requests of API Gateway (HTTP and REST API), Application Load Balancer and Function URL, through Mangum."""

from __future__ import annotations

import logging
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from mangum import Mangum
from mangum.protocols.http import HTTPCycle
from mangum.types import Response, Scope

from slackwater.errors import AnswerTooLarge, ApiError, StartError
from slackwater.kit import wire
from slackwater.kit.refusal import Refusal
from slackwater.web.delivery import SCOPE_KEY, Delivery
from slackwater_lambda.environment import ANSWER_SECONDS

if TYPE_CHECKING:
    from slackwater_lambda.environment import Environment
    from slackwater_lambda.invocation import Invocation

log = logging.getLogger(__name__)

LONGEST_ESCAPE = 12
"""Of one character: two times `\\uXXXX`."""


class NotStarted(ApiError):
    """The server cannot start: its log says why."""

    status = 503
    headers = {"Retry-After": "1"}  # noqa: RUF012


class Overdue(ApiError):
    """The request took longer than this function may."""

    status = 504


class Translator(Mangum):
    """Mangum, for its translation only: its lifespan and its event loop end with each invocation."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment.app, lifespan="off")
        self.environment = environment

    def _setup_event_loop(self) -> None:
        """The loop is the environment's."""

    def respond(self, event: Mapping[str, Any], context: Any, invocation: Invocation) -> Any:
        """The app's answer to a request, in the shape that its source expects."""
        handler = self.infer(without_stage(event), context)
        try:
            self.environment.open(invocation)
            response = self._ask(handler.scope, handler.body, invocation)
        except StartError as problem:
            log.error("not started: %s", problem, extra={"event": "start.failed"})
            response = response_of(NotStarted())
        except TimeoutError:
            response = response_of(Overdue())
        answer = handler(response)
        size = _size(answer)
        return (
            answer
            if size <= wire.ANSWER_BYTES
            else handler(response_of(AnswerTooLarge(size, wire.ANSWER_BYTES)))
        )

    def scope_of(self, scope: Scope, invocation: Invocation, *, live: bool) -> Scope:
        """The scope with what the app finds in it elsewhere, too, and how its answer is delivered."""
        delivery = Delivery(until=invocation.ask_at, live=live)
        return {**scope, "state": {"services": self.environment.services}, SCOPE_KEY: delivery}

    def _ask(self, scope: Scope, body: bytes, invocation: Invocation) -> Response:
        cycle = HTTPCycle(self.scope_of(scope, invocation, live=False), body)
        # Never cancelled: Mangum would swallow it, and answer 500 without what has been sent.
        self.environment.run(
            counted(cycle.run(self.environment.app), invocation), invocation.left() - ANSWER_SECONDS
        )
        return {"status": cycle.status, "headers": cycle.headers, "body": cycle.body}


def _size(answer: Mapping[str, Any]) -> int:
    """What Lambda counts the body as: it travels inside JSON, where a quote or an umlaut takes more than in UTF-8."""
    body = answer.get("body") or ""
    if answer.get("isBase64Encoded") or len(body) * LONGEST_ESCAPE <= wire.ANSWER_BYTES:
        return len(body)
    return wire.escaped_size(body.encode())


async def counted(request: Coroutine[Any, Any, None], invocation: Invocation) -> None:
    """Answer a request. Until it is done, whatever becomes of its caller, the environment must not be frozen."""
    with invocation.request():
        await request


def response_of(error: ApiError) -> Response:
    """An error as the app answers it, for where there is no app to ask."""
    refusal = Refusal.of(error)
    headers = [[name, value] for name, value in refusal.raw_headers]
    return {"status": refusal.status, "headers": headers, "body": refusal.body}


def without_stage(event: Mapping[str, Any]) -> dict[str, Any]:
    """The event of an HTTP API with the path that the app knows: a named stage is the first part of it."""
    request = event["requestContext"]
    stage, http = request.get("stage"), request.get("http")
    if not http or stage in (None, "", "$default"):
        return dict(event)
    prefix, path = f"/{stage}", http["path"]
    if path != prefix and not path.startswith(prefix + "/"):
        return dict(event)
    http = {**http, "path": path.removeprefix(prefix) or "/"}
    return {**event, "requestContext": {**request, "http": http}}
