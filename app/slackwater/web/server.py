"""`slackwater serve`: uvicorn, without the waits that a drain has made unnecessary."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Generator

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slackwater import telemetry
from slackwater.errors import Draining, ExitCode, StartError
from slackwater.kit import garbage
from slackwater.kit.refusal import refuse
from slackwater.main import create_app
from slackwater.settings import Settings
from slackwater.web.connection import Connection
from slackwater.web.listener import listen

KEEP_ALIVE_SECONDS = 75
"""How long an idle connection stays open: longer than a load balancer keeps one to us (60 s), which would else send a request
into one that we are closing, and answer 502."""

GONE_POLL_SECONDS = 0.005
CONNECTION_SECONDS = 0.5
"""How long the last answers may take to leave, once every run has been settled."""


class Server(uvicorn.Server):
    """Leaves as soon as the drain is over: stock uvicorn looks every 100 ms, three times in a row."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._leave = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        # Not raised again at the end, as uvicorn does: the exit code says how the drain went.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        yield

    def handle_exit(self, sig: int, frame: object) -> None:
        self.should_exit = True
        self._leave.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        garbage.freeze()
        for server in self.servers:
            for listener in server.sockets:
                host, port = listener.getsockname()[:2]
                print(
                    f"slackwater.ready url=http://{f'[{host}]' if ':' in host else host}:{port}", flush=True
                )

    async def main_loop(self) -> None:
        counter = 0
        while not await self.on_tick(counter):
            counter = (counter + 1) % 864000
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await self._leave.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CONNECTION_SECONDS):
                while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110 - uvicorn has no event
                    await asyncio.sleep(GONE_POLL_SECONDS)
        for task in list(self.server_state.tasks):
            task.cancel()
        await self.lifespan.shutdown()


def answered(app: ASGIApp) -> ASGIApp:
    """`app`, which refuses a request that is cancelled, as only the end of `Server.shutdown` does: uvicorn would answer 500."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def send_started(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await app(scope, receive, send_started)
        except asyncio.CancelledError:
            if not started and scope["type"] != "lifespan":
                await refuse(Draining(), scope, receive, send)
            # What has begun is left without its end, which is how a client learns that there is more.

    return answer


def serve(settings: Settings) -> ExitCode:
    """Serve until a signal; the exit code says whether everything was drained."""
    settings.check_bind(settings.host)
    listener = listen(settings.host, settings.port, change="--port or --host")
    app = create_app(settings)
    config = uvicorn.Config(
        answered(app),
        host=settings.host,
        port=settings.port,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # `web.proxies` reads them
        http=Connection,
        ws_max_size=settings.max_body_bytes,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    try:
        Server(config).run(sockets=[listener])
    except SystemExit:
        error = app.state.start_error
        if isinstance(error, StartError):
            raise error from None
        raise
    stop = app.state.stop
    return ExitCode(stop.exit_code) if stop is not None else ExitCode.CLEAN


def main(settings: Settings) -> None:
    """Serve, and leave with the exit code."""
    try:
        code = serve(settings)
    except StartError as error:
        print(f"slackwater: {error.message}", file=sys.stderr)
        code = error.exit_code
    # Freeing every module one by one takes the interpreter longer than most drains.
    atexit._run_exitfuncs()
    telemetry.flush()
    os._exit(code)
