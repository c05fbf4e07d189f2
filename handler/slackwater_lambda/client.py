"""What a runtime client does: it takes events from the Runtime API, one after the other, and answers them."""

from __future__ import annotations

import http.client
import json
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from slackwater.errors import SlackwaterError, StartError
from slackwater_lambda import observation
from slackwater_lambda.answer import Answer
from slackwater_lambda.environment import ANSWER_SECONDS
from slackwater_lambda.events import streams
from slackwater_lambda.http import NotStarted, Overdue, Translator, counted, without_stage
from slackwater_lambda.runtime_api import Context, RuntimeApi, RuntimeApiError

log = logging.getLogger(__name__)

TRACE_ID = "_X_AMZN_TRACE_ID"


class Client:
    """Streams the answers of requests whose source passes them on; all other events are `handler`'s."""

    def __init__(self, api: RuntimeApi, translator: Translator, handler: Callable[[Any, Any], Any]) -> None:
        self._api = api
        self._translator = translator
        self._handler = handler

    def run(self) -> NoReturn:
        """Until the environment ends."""
        try:
            while True:
                self.invoke(*self._api.next())
        except (OSError, http.client.HTTPException, RuntimeApiError) as problem:
            log.error("no more events: %r", problem, extra={"event": "runtime_api.gone"})
            self._translator.environment.stop("no Runtime API")
            raise  # not reached

    def invoke(self, context: Context, payload: bytes) -> None:
        """Answer one event. Raises OSError when the Runtime API has gone."""
        if context.trace_id is None:
            os.environ.pop(TRACE_ID, None)
        else:
            os.environ[TRACE_ID] = context.trace_id
        try:
            event = json.loads(payload)
            if streams(event):
                self._stream(event, context)
                return
            result = json.dumps(self._handler(event, context)).encode()
        except Exception as error:
            if not isinstance(error, SlackwaterError):  # which has been logged
                log.exception("the invocation failed", extra={"event": "invocation.failed"})
            self._api.fail(context.aws_request_id, error)
        else:
            self._api.respond(context.aws_request_id, result)

    def _stream(self, event: Mapping[str, Any], context: Any) -> None:
        translator, environment = self._translator, self._translator.environment
        with environment.invocation(context) as invocation:
            observation.correlate(event)
            request = translator.infer(without_stage(event), context)
            until = invocation.deadline - ANSWER_SECONDS
            answer = Answer(self._api, context.aws_request_id, request.body, until)
            try:
                environment.open(invocation)
                scope = translator.scope_of(request.scope, invocation, live=True)
                answering = answer.serve(environment.app, scope)
            except StartError as problem:
                log.error("not started: %s", problem, extra={"event": "start.failed"})
                answering = answer.give(NotStarted())
            except TimeoutError:
                answering = answer.give(Overdue())
            try:
                environment.run(counted(answering, invocation), invocation.left())
            except TimeoutError:
                # A node holds the event loop. What has been begun cannot be ended, so the process has to be.
                environment.stop("stuck")
