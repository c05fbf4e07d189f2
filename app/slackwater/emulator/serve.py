"""`slackwater lambda`: the gateway, its environments, a schedule and a queue, in one process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import NoReturn

import orjson
import uvicorn

from slackwater import telemetry
from slackwater.emulator import binary, events, queue
from slackwater.emulator import settings as emulator_settings
from slackwater.emulator.fleet import Fleet
from slackwater.emulator.function import HANDLER, STREAMING, Function
from slackwater.emulator.gateway import Gateway
from slackwater.errors import ExitCode, StartError
from slackwater.settings import Settings
from slackwater.web.listener import listen

HOST = "127.0.0.1"
"""The only address: there is no authentication between the network and the function."""
RESPONSE_SECONDS = 1
"""For the last responses, once every environment has exited."""


@dataclass(frozen=True, slots=True)
class Options:
    """Command line options that are not settings."""

    port: int = 3000
    environments: int = 4
    timeout_seconds: int = 60
    memory_mb: int = 1769
    schedule_seconds: float = 60.0
    """Seconds between two sweeps; 0: none."""
    queue_url: str | None = None
    variables: Sequence[str] = ()
    handler: str = HANDLER
    stream: bool = False
    """Emulate a Function URL in mode RESPONSE_STREAM."""


class EmulatorServer(uvicorn.Server):
    """Leaves signals to us: environments have to stop before the listener."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def serve(settings: Settings, options: Options) -> ExitCode:
    """Serve until SIGTERM or SIGINT. Raises StartError."""
    binary.find()  # fail now rather than with the first request
    async with AsyncExitStack() as stack:
        stop = _stop_signals(stack)
        listener = stack.enter_context(listen(HOST, options.port, change="--port"))
        database = await stack.enter_async_context(emulator_settings.database_of(settings))
        url = f"http://{HOST}:{listener.getsockname()[1]}"
        fleet = Fleet(_function(settings, options, database, url), limit=options.environments)
        gateway = Gateway(
            fleet,
            limit_seconds=settings.gateway_limit_seconds,
            authorizer=emulator_settings.authorizer_of(settings),
            streams=options.stream,
            keyless=not (settings.has_keys or settings.accounts),
        )
        server = EmulatorServer(
            uvicorn.Config(
                gateway,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=RESPONSE_SECONDS,
            )
        )
        tasks = [asyncio.create_task(server.serve(sockets=[listener]), name="gateway")]
        sources = _sources(fleet, options)
        print(f"slackwater.ready url={url}", flush=True)
        try:
            ended = asyncio.create_task(stop.wait(), name="stop")
            await asyncio.wait({ended, *tasks, *sources}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            for source in sources:
                source.cancel()
            # The gateway keeps serving while environments drain: they may hand over runs by invoking the function.
            await fleet.close()
            server.should_exit = True
            results = await asyncio.gather(*tasks, *sources, ended, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result
    return ExitCode.CLEAN


def _sources(fleet: Fleet, options: Options) -> list[asyncio.Task[None]]:
    """Event sources besides requests."""
    sources = []
    if options.schedule_seconds > 0:
        schedule = _schedule(fleet, options.schedule_seconds)
        sources.append(asyncio.create_task(schedule, name="schedule"))
    if options.queue_url:
        # One environment is left for requests, as with MaximumConcurrency.
        consumer = queue.Queue(options.queue_url, concurrency=max(1, options.environments - 1))
        sources.append(asyncio.create_task(consumer.consume(fleet), name="queue"))
    return sources


async def _schedule(fleet: Fleet, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        await fleet.deliver(orjson.dumps(events.scheduled(time.time())))


def _function(settings: Settings, options: Options, database: dict[str, str], url: str) -> Function:
    variables = emulator_settings.variables(settings, options.variables)
    if options.queue_url:
        queue.endpoint()
        variables["SLACKWATER_QUEUE_URL"] = options.queue_url
    variables.setdefault("SLACKWATER_HANDOVER", "sqs" if options.queue_url else "invoke")
    return Function(
        emulator_settings.root_of(settings),
        handler=options.handler,
        timeout_seconds=options.timeout_seconds,
        memory_mb=options.memory_mb,
        command=(sys.executable, "-m", STREAMING) if options.stream else None,
        # The function's own calls to Lambda come back to us.
        variables={**variables, **database, "AWS_ENDPOINT_URL_LAMBDA": url},
    )


def _stop_signals(stack: AsyncExitStack) -> asyncio.Event:
    """An event that the first SIGTERM or SIGINT sets. A second SIGINT exits at once; the watchdogs then stop what is left."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def ask(number: signal.Signals) -> None:
        if stop.is_set() and number is signal.SIGINT:
            os._exit(ExitCode.FORCED)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask, number)
        stack.callback(loop.remove_signal_handler, number)
    return stop


def main(settings: Settings, options: Options) -> NoReturn:
    """Serve, and exit with the exit code."""
    telemetry.configure(settings)
    try:
        code = asyncio.run(serve(settings, options))
    except StartError as error:
        print(f"slackwater: {error.message}", file=sys.stderr)
        code = error.exit_code
    sys.exit(code)
