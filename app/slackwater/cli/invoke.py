"""`slackwater invoke`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slackwater.cli.lambda_ import Handler, Memory, Timeout, Variables
from slackwater.cli.options import DatabaseUri, ProjectPath
from slackwater.errors import SettingsError, SlackwaterError

if TYPE_CHECKING:
    from slackwater.emulator.environment import InvocationResult
    from slackwater.settings import Settings


class FunctionFailed(SlackwaterError):
    """The function failed: its log says why."""


def invoke(
    event: Annotated[
        str,
        typer.Option(
            "--event",
            "-e",
            metavar="FILE",
            help="The event as a JSON file, such as events/sweep.json, or - for stdin.",
        ),
    ],
    project: ProjectPath = None,
    timeout: Timeout = 60,
    memory: Memory = 1769,
    env: Variables = None,
    database_uri: DatabaseUri = None,
    handler: Handler = "slackwater_lambda.main.lambda_handler",
) -> None:
    """Invoke the function with one event, as AWS Lambda would, and print the result.

    Waits for runs that continue after the result, up to the timeout. The function
    logs to stderr. Exits with 1 if the function fails.
    """
    import asyncio

    from slackwater.emulator import settings as emulator_settings

    content = _read(event)
    settings = emulator_settings.load(project, database_uri)
    outcome = asyncio.run(_invoke(settings, content, timeout, memory, env or [], handler))
    if outcome.error is not None:
        raise FunctionFailed(f"The function failed with {_reason(outcome)}")


async def _invoke(
    settings: Settings, event: Any, timeout: int, memory: int, env: list[str], handler: str
) -> InvocationResult:
    import orjson

    from slackwater.emulator import events
    from slackwater.emulator import settings as emulator_settings
    from slackwater.emulator.environment import EmulatedEnvironment
    from slackwater.emulator.function import Function

    events.authorise(event, emulator_settings.authorizer_of(settings))
    async with emulator_settings.database_of(settings) as database:
        variables = emulator_settings.variables(settings, env)
        variables.setdefault("SLACKWATER_HANDOVER", "sweep")  # nobody would take it here and now
        environment = EmulatedEnvironment(
            Function(
                emulator_settings.root_of(settings),
                handler=handler,
                timeout_seconds=timeout,
                memory_mb=memory,
                variables={**variables, **database},
            )
        )
        try:
            await environment.start()
            invocation = environment.invoke(orjson.dumps(event))
            outcome = await invocation.outcome
            if outcome.error is None:
                _show(outcome.payload)
            await invocation.done
        finally:
            await environment.stop()
    return outcome


def _read(event: str) -> Any:
    import orjson

    try:
        payload = sys.stdin.buffer.read() if event == "-" else Path(event).read_bytes()
        return orjson.loads(payload)
    except OSError as error:
        raise SettingsError(f"{event} cannot be read: {error.strerror}.") from None
    except orjson.JSONDecodeError as error:
        raise SettingsError(f"{event}, line {error.lineno}, column {error.colno}: {error.msg}.") from None


def _reason(outcome: InvocationResult) -> str:
    import orjson

    try:
        error = orjson.loads(outcome.payload)
        return f"{error['errorType']}: {error['errorMessage']}"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return f"{outcome.error}: {outcome.payload.decode(errors='replace')}"


def _show(payload: bytes) -> None:
    import orjson

    try:
        text = orjson.dumps(orjson.loads(payload), option=orjson.OPT_INDENT_2)
    except orjson.JSONDecodeError:
        text = payload
    typer.echo(text.decode(errors="replace"))
