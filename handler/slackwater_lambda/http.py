"""Requests from API Gateway (HTTP and REST APIs), Application Load Balancers and Function URLs, translated by Mangum."""

from __future__ import annotations

import logging
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from mangum import Mangum
from mangum.protocols.http import HTTPCycle
from mangum.types import Response, Scope

from slackwater.errors import ApiError, ResponseTooLarge, StartError
from slackwater.kit import json_format
from slackwater.kit.refusal import Refusal
from slackwater.web.delivery import SCOPE_KEY, Delivery
from slackwater.web.security_headers import with_security
from slackwater_lambda.environment import RESPONSE_SECONDS

if TYPE_CHECKING:
    from slackwater_lambda.environment import Environment
    from slackwater_lambda.invocation import Invocation

log = logging.getLogger(__name__)

LONGEST_ESCAPE = 12
"""JSON characters for one character of the body, at most: `\\uXXXX` twice."""


class NotStarted(ApiError):
    """The server cannot start: its log says why."""

    status = 503
    headers = {"Retry-After": "1"}  # noqa: RUF012


class Overdue(ApiError):
    """The request took longer than this function may."""

    status = 504


class HttpAdapter(Mangum):
    """Mangum, for translation only: its own lifespan and event loop would end with each invocation."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment.app, lifespan="off")
        self.environment = environment

    def _setup_event_loop(self) -> None:
        """The environment owns the event loop."""

    def respond(self, event: Mapping[str, Any], context: Any, invocation: Invocation) -> Any:
        """The app's response to a request, in the format that the event source expects."""
        handler = self.infer(without_stage(event), context)
        try:
            self.environment.open(invocation)
            response = self._call_app(handler.scope, handler.body, invocation)
        except StartError as problem:
            log.error("not started: %s", problem, extra={"event": "start.failed"})
            response = response_of(NotStarted())
        except TimeoutError:
            response = response_of(Overdue())
        result = handler(response)
        size = _size(result)
        return (
            result
            if size <= json_format.RESPONSE_BYTES
            else handler(response_of(ResponseTooLarge(size, json_format.RESPONSE_BYTES)))
        )

    def scope_of(self, scope: Scope, invocation: Invocation, *, live: bool) -> Scope:
        """The scope, with the state that a server's lifespan would put into it, and how the response is delivered."""
        delivery = Delivery(until=invocation.ask_at, live=live)
        return {**scope, "state": {"services": self.environment.services}, SCOPE_KEY: delivery}

    def _call_app(self, scope: Scope, body: bytes, invocation: Invocation) -> Response:
        cycle = HTTPCycle(self.scope_of(scope, invocation, live=False), body)
        # Never cancelled: Mangum would swallow the cancellation and answer 500, losing what has been sent.
        self.environment.run(
            tracked(cycle.run(self.environment.app), invocation), invocation.left() - RESPONSE_SECONDS
        )
        return {"status": cycle.status, "headers": cycle.headers, "body": cycle.body}


def _size(response: Mapping[str, Any]) -> int:
    """Bytes of the body as Lambda counts them: inside JSON, where a quote or an umlaut takes more than in UTF-8."""
    body = response.get("body") or ""
    if response.get("isBase64Encoded") or len(body) * LONGEST_ESCAPE <= json_format.RESPONSE_BYTES:
        return len(body)
    return json_format.escaped_size(body.encode())


async def tracked(request: Coroutine[Any, Any, None], invocation: Invocation) -> None:
    """Await a request, counted as in flight: until it is done the environment must not be frozen, even if its caller has gone."""
    with invocation.request():
        await request


def response_of(error: ApiError) -> Response:
    """An error in the app's own format, for when the app cannot be called."""
    refusal = Refusal.of(error)
    headers = [[name, value] for name, value in with_security(refusal.raw_headers)]
    return {"status": refusal.status, "headers": headers, "body": refusal.body}


def without_stage(event: Mapping[str, Any]) -> dict[str, Any]:
    """The event of an HTTP API without its stage: a named stage is the first part of the path, and the app does not know it."""
    request = event["requestContext"]
    stage, http = request.get("stage"), request.get("http")
    if not http or stage in (None, "", "$default"):
        return dict(event)
    prefix, path = f"/{stage}", http["path"]
    if path != prefix and not path.startswith(prefix + "/"):
        return dict(event)
    http = {**http, "path": path.removeprefix(prefix) or "/"}
    return {**event, "requestContext": {**request, "http": http}}
