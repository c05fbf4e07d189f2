"""The runtime interface client: takes events from the Runtime API, one at a time, and responds to them."""

from __future__ import annotations

import http.client
import json
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from slackwater.errors import SlackwaterError, StartError
from slackwater_lambda import observability
from slackwater_lambda.environment import RESPONSE_SECONDS
from slackwater_lambda.events import supports_streaming
from slackwater_lambda.http import HttpAdapter, NotStarted, Overdue, tracked, without_stage
from slackwater_lambda.response_stream import ResponseStream
from slackwater_lambda.runtime_api import Context, RuntimeApi, RuntimeApiError

log = logging.getLogger(__name__)

TRACE_ID = "_X_AMZN_TRACE_ID"


class RuntimeClient:
    """Streams responses where the event source supports it; passes all other events to `handler`."""

    def __init__(self, api: RuntimeApi, adapter: HttpAdapter, handler: Callable[[Any, Any], Any]) -> None:
        self._api = api
        self._adapter = adapter
        self._handler = handler

    def run(self) -> NoReturn:
        """Handle events until the environment ends."""
        try:
            while True:
                self.invoke(*self._api.next())
        except (OSError, http.client.HTTPException, RuntimeApiError) as problem:
            log.error("no more events: %r", problem, extra={"event": "runtime_api.gone"})
            self._adapter.environment.stop("no Runtime API")
            raise  # not reached

    def invoke(self, context: Context, payload: bytes) -> None:
        """Handle one event. Raises OSError if the Runtime API cannot be reached."""
        if context.trace_id is None:
            os.environ.pop(TRACE_ID, None)
        else:
            os.environ[TRACE_ID] = context.trace_id
        try:
            event = json.loads(payload)
            if supports_streaming(event):
                self._stream(event, context)
                return
            result = json.dumps(self._handler(event, context)).encode()
        except Exception as error:
            if not isinstance(error, SlackwaterError):  # already logged
                log.exception("the invocation failed", extra={"event": "invocation.failed"})
            self._api.fail(context.aws_request_id, error)
        else:
            self._api.respond(context.aws_request_id, result)

    def _stream(self, event: Mapping[str, Any], context: Any) -> None:
        adapter, environment = self._adapter, self._adapter.environment
        with environment.invocation(context) as invocation:
            observability.correlate(event)
            request = adapter.infer(without_stage(event), context)
            until = invocation.deadline - RESPONSE_SECONDS
            stream = ResponseStream(self._api, context.aws_request_id, request.body, until)
            try:
                environment.open(invocation)
                scope = adapter.scope_of(request.scope, invocation, live=True)
                response = stream.serve(environment.app, scope)
            except StartError as problem:
                log.error("not started: %s", problem, extra={"event": "start.failed"})
                response = stream.send_error(NotStarted())
            except TimeoutError:
                response = stream.send_error(Overdue())
            try:
                environment.run(tracked(response, invocation), invocation.left())
            except TimeoutError:
                # A node blocks the event loop, so the response cannot be ended. Only ending the process does that.
                environment.stop("stuck")
