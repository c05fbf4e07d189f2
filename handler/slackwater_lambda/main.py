"""AWS Lambda's entry: `slackwater_lambda.main.lambda_handler`. It decides what kind of event it is, and who takes it."""

# ruff: noqa: E402
from __future__ import annotations

import gc

gc.disable()  # until all is there: see the end

from slackwater_lambda import signals

signals.block()  # before any thread exists, those of imported libraries included

import logging
import os
from typing import Any

from slackwater.errors import SlackwaterError, StartError
from slackwater.main import create_app
from slackwater.settings import Settings
from slackwater_lambda import observation, snapshot
from slackwater_lambda.environment import Environment
from slackwater_lambda.events import Kind, kind_of
from slackwater_lambda.extension import Extension
from slackwater_lambda.http import Translator

log = logging.getLogger(__name__)

environment = Environment(create_app())
translator = Translator(environment)


def initialise() -> None:
    """What is done once, before the first invocation. A start that fails is tried again by each invocation."""
    runtime_api = os.environ.get("AWS_LAMBDA_RUNTIME_API")
    try:
        if runtime_api is not None:
            signals.on_sigterm(environment.stop)
            if Settings.load().lambda_extension:
                environment.held = Extension(runtime_api, environment.after).register()
            snapshot.register(environment)
        environment.start()
    except (StartError, TimeoutError) as problem:
        log.error("not started: %s", problem or "it took too long", extra={"event": "start.failed"})


def lambda_handler(event: Any, context: Any) -> Any:
    """Answer one event. Raises for what cannot be carried out: the invocation counts as failed then."""
    with environment.invocation(context) as invocation:
        observation.correlate(event)
        try:
            match kind_of(event):
                case Kind.REQUEST:
                    return translator.respond(event, context, invocation)
                case Kind.QUEUE:
                    from slackwater_lambda.queue import consume

                    return consume(environment, invocation, event, context)
                case Kind.TASK:
                    from slackwater_lambda.tasks import perform

                    return perform(environment, invocation, event)
        except SlackwaterError as error:
            log.error(error.message, extra={"event": "invocation.failed", "error": type(error).__name__})
            raise


initialise()
# What has been imported stays for as long as the process. To look through it time and again took a tenth of the start.
gc.freeze()
gc.enable()
