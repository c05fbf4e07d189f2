"""One execution environment: an emulator process, the runtime that it starts, and one invocation at a time."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import httpx
import orjson

from slackwater.emulator import binary, watchdog
from slackwater.emulator.binary import EmulatorError
from slackwater.emulator.function import Function
from slackwater.emulator.runtime_api_proxy import RuntimeApiProxy, Stream

RESPONSE_BYTES = 6_291_556
"""The largest response of a function, as the emulator and AWS count it."""
START_SECONDS = 15.0
START_ATTEMPTS = 3
OVERTIME_SECONDS = 20.0
"""How long after its timeout we end an invocation that the emulator has not ended."""
STOP_SECONDS = watchdog.STOP_SECONDS + 1.0

_TIMED_OUT = b"Task timed out after"


@dataclass(frozen=True, slots=True)
class InvocationResult:
    """The result of an invocation."""

    payload: bytes
    """What the function returned, or the error as JSON."""
    error: str | None = None
    """The type of the error, if the function failed; the Invoke API's `FunctionError` is then `Unhandled`."""
    stream: Stream | None = None
    """The body of a streamed response, whose payload is only the head: JSON of status, headers and cookies."""

    @classmethod
    def failed(cls, kind: str, message: str) -> InvocationResult:
        return cls(orjson.dumps({"errorType": kind, "errorMessage": message}), kind)


@dataclass(eq=False)
class PendingInvocation:
    """An invocation in progress."""

    outcome: asyncio.Future[InvocationResult]
    """Set as soon as the function responds."""
    done: asyncio.Future[None]
    """Set when the environment is free again: its runtime and extensions have asked for the next event."""
    began: float = field(default_factory=time.monotonic)

    def settle(self, outcome: InvocationResult) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class EmulatedEnvironment:
    """`start` it, `invoke` it for one event after another, and `stop` it. Not to be shared between event loops."""

    def __init__(self, function: Function, *, log: IO[bytes] | None = None) -> None:
        """`log` receives the output of the emulator and the function; the default is our stderr."""
        self.function = function
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._owner = -1
        self._proxy: RuntimeApiProxy | None = None
        self._port = 0
        self._invocation: PendingInvocation | None = None
        self._work: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()
        self._stopped = False

    @property
    def alive(self) -> bool:
        """Whether its process is alive."""
        return self._process is not None and self._process.returncode is None

    @property
    def busy(self) -> bool:
        return self._work is not None and not self._work.done()

    async def start(self) -> None:
        """Start the emulator, which starts the runtime with the first event. Raises EmulatorError."""
        program = binary.find()
        async with self._changing:
            for _ in range(START_ATTEMPTS):
                if self._stopped:
                    raise EmulatorError("The Lambda emulator is being stopped.")
                if await self._start(program):
                    return
                await self._stop(0)
        raise EmulatorError(
            "The Lambda emulator does not start: see its output above (set SLACKWATER_LAMBDA_RIE to try another one)."
        )

    def invoke(self, payload: bytes) -> PendingInvocation:
        """Invoke the function. Only one at a time: a concurrent invocation would crash the emulator."""
        if self.busy:
            raise RuntimeError("the environment is busy")
        loop = asyncio.get_running_loop()
        invocation = self._invocation = PendingInvocation(loop.create_future(), loop.create_future())
        self._work = asyncio.create_task(self._invoke(invocation, payload), name="invocation")
        return invocation

    async def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Send SIGTERM to the emulator, which passes it on to the runtime; after `seconds`, SIGKILL to what is left."""
        self._stopped = True
        async with self._changing:
            await self._stop(seconds)

    async def _stop(self, seconds: float) -> None:
        if self._process is not None:
            if seconds > 0:
                with suppress(ProcessLookupError):
                    self._process.terminate()
                with suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await self._process.wait()
            await self._kill()
        if self._work is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await asyncio.wait({self._work})
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
        if self._proxy is not None:
            await self._proxy.close()

    # Processes

    def pids(self) -> dict[str, int]:
        """The live processes by role: `watchdog`, `emulator`, and `runtime` once it has started."""
        found = {}
        pid = self._process.pid if self._process is not None and self.alive else None
        for role in ("watchdog", "emulator", "runtime"):
            if pid is None:
                break
            found[role] = pid
            pid = next(iter(_children(pid)), None)
        return found

    async def _start(self, program: Path) -> bool:
        """Start the processes. False if they do not listen: another process may have taken the ports."""
        self._port, api_port = _free_ports()
        self._proxy = RuntimeApiProxy(api_port, self)
        proxy_port = await self._proxy.open()
        watched, self._owner = os.pipe()
        command = (
            *(str(program), "--log-level", "error"),
            *("--runtime-interface-emulator-address", f"127.0.0.1:{self._port}"),
            *("--runtime-api-address", f"127.0.0.1:{api_port}"),
            # The emulator sets this variable last; only a command in between can change it.
            *("/usr/bin/env", f"AWS_LAMBDA_RUNTIME_API=127.0.0.1:{proxy_port}"),
            *self.function.runtime(),
        )
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", watchdog.__file__, str(watched)),
                *command,
                pass_fds=[watched],
                cwd=self.function.folder,
                env=self.function.environment(),
                stdin=subprocess.DEVNULL,
                stdout=self._log or sys.stderr,
                stderr=self._log or sys.stderr,
                start_new_session=True,  # so that Ctrl-C in a terminal reaches only us
            )
        finally:
            os.close(watched)
        return await self._listens()

    async def _listens(self) -> bool:
        deadline = time.monotonic() + START_SECONDS
        while self.alive and time.monotonic() < deadline:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                return True
        return False

    async def _kill(self) -> None:
        """Kill what is left, and wait until it has exited."""
        assert self._process is not None
        if self.alive:
            with suppress(ProcessLookupError):
                self._process.send_signal(watchdog.KILL)
        await self._process.wait()
        if self._owner >= 0:
            os.close(self._owner)
            self._owner = -1

    # Invocations

    async def _invoke(self, invocation: PendingInvocation, payload: bytes) -> None:
        seconds = self.function.timeout_seconds + OVERTIME_SECONDS
        try:
            async with asyncio.timeout(seconds):
                invocation.settle(await self._post(payload))
        except TimeoutError:
            invocation.settle(
                InvocationResult.failed(
                    "Sandbox.Timedout", f"the emulator did not end it within {seconds:.0f} s"
                )
            )
            await self._kill()
        except httpx.HTTPError as error:
            # The emulator has crashed or is being stopped.
            invocation.settle(
                InvocationResult.failed("Sandbox.Failure", f"the execution environment has gone ({error!r})")
            )
            await self._kill()
        finally:
            invocation.settle(
                InvocationResult.failed("Sandbox.Failure", "the execution environment has been stopped")
            )
            self._invocation = None
            invocation.done.set_result(None)

    async def _post(self, payload: bytes) -> InvocationResult:
        """The emulator's own response, which comes last."""
        url = f"http://127.0.0.1:{self._port}/2015-03-31/functions/function/invocations"
        # Neither HTTP proxies nor certificates, as it is a local port; the invocation has a limit of its own.
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=None) as client:  # noqa: S113, S501
            response = await client.post(url, content=payload)
        return parse_response(response.status_code, response.content)

    # Called by the proxy

    def on_stream(self, stream: Stream) -> None:
        if self._invocation is not None and stream.head is not None:
            self._invocation.settle(InvocationResult(stream.head, stream=stream))

    def on_response(self, failed: bool, payload: bytes) -> None:
        if self._invocation is not None and (failed or len(payload) <= RESPONSE_BYTES):
            self._invocation.settle(InvocationResult(payload, "Unhandled" if failed else None))


def parse_response(status: int, body: bytes) -> InvocationResult:
    """Parse the emulator's final response. Errors of the function can be recognised only by their shape."""
    if body.startswith(_TIMED_OUT):
        return InvocationResult.failed("Sandbox.Timedout", body.decode())
    if status != 200:
        return InvocationResult(body, _error_type(body) or "Sandbox.Failure")
    return InvocationResult(body, _error_type(body))


def _error_type(body: bytes) -> str | None:
    with suppress(orjson.JSONDecodeError):
        content = orjson.loads(body)
        if isinstance(content, dict) and "errorMessage" in content and "statusCode" not in content:
            return str(content.get("errorType") or "Unhandled")
    return None


def _free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        for listener in (first, second):
            listener.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


def _children(pid: int) -> list[int]:
    found = []
    # Of every thread: any of the emulator's threads may have started the runtime.
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [int(child) for child in children.read_text().split()]
    return found
