"""The AWS Lambda entry point, `slackwater_lambda.main.lambda_handler`: dispatches events by their kind."""

# ruff: noqa: E402
from __future__ import annotations

import gc

gc.disable()  # until everything is imported: see the end

from slackwater_lambda import signals

signals.block()  # before any thread exists, including those of imported libraries

import logging
import os
from typing import Any

from slackwater.errors import SlackwaterError, StartError
from slackwater.main import create_app
from slackwater.settings import Settings
from slackwater_lambda import observability, snapstart
from slackwater_lambda.environment import Environment
from slackwater_lambda.events import EventKind, kind_of
from slackwater_lambda.extension import Extension
from slackwater_lambda.http import HttpAdapter

log = logging.getLogger(__name__)

environment = Environment(create_app())
adapter = HttpAdapter(environment)


def initialise() -> None:
    """Initialise the environment once, before the first invocation. If the start fails, each invocation tries again."""
    runtime_api = os.environ.get("AWS_LAMBDA_RUNTIME_API")
    try:
        if runtime_api is not None:
            signals.on_sigterm(environment.stop)
            if Settings.load().lambda_extension:
                environment.extension_registered = Extension(
                    runtime_api, environment.after_response
                ).register()
            snapstart.register(environment)
        environment.start()
    except (StartError, TimeoutError) as problem:
        log.error("not started: %s", problem or "it took too long", extra={"event": "start.failed"})


def lambda_handler(event: Any, context: Any) -> Any:
    """Handle one event. Raises if it cannot be carried out; the invocation then counts as failed."""
    with environment.invocation(context) as invocation:
        observability.correlate(event)
        try:
            match kind_of(event):
                case EventKind.REQUEST:
                    return adapter.respond(event, context, invocation)
                case EventKind.QUEUE:
                    from slackwater_lambda.queue import consume

                    return consume(environment, invocation, event, context)
                case EventKind.TASK:
                    from slackwater_lambda.tasks import perform

                    return perform(environment, invocation, event)
        except SlackwaterError as error:
            log.error(error.message, extra={"event": "invocation.failed", "error": type(error).__name__})
            raise


initialise()
# What has been imported lives as long as the process. Traversing it again and again took a tenth of the start time.
gc.freeze()
gc.enable()
