"""Execution environments and the gateway, for tests: started by the real emulator, and never left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slackwater.emulator.environment import EmulatedEnvironment, PendingInvocation
from slackwater.emulator.function import HANDLER, Function
from tests.support.server import ROOT, SHORT, SITE, SOURCES, ServerProcess, clean_environment

GONE_POLL_SECONDS = 0.002


@dataclass(frozen=True)
class Reply:
    """What an invocation has given."""

    payload: Any
    """The result, or the error object."""
    error: str | None
    answered_ms: float
    """Until the function responded: on AWS the client has the response then."""
    done_ms: float
    """Until the runtime and its extension asked for the next event: on AWS the environment freezes then."""

    @property
    def status(self) -> int:
        """Of an HTTP event."""
        assert self.error is None, self.payload
        return int(self.payload["statusCode"])

    @property
    def body(self) -> Any:
        """The JSON body of an HTTP event's answer."""
        assert self.error is None, self.payload
        return json.loads(self.payload["body"])


@dataclass(eq=False)
class LocalEnvironment:
    """One execution environment: one emulator with one runtime."""

    environment: EmulatedEnvironment
    log_file: Path
    _frozen: bool = field(default=False, init=False)

    def begin(self, event: object) -> PendingInvocation:
        """Invoke, and wait for nothing: `await invocation.outcome`, `await invocation.done`."""
        return self.environment.invoke(json.dumps(event).encode())

    async def invoke(self, event: object) -> Reply:
        """Invoke, and wait until the environment is free again."""
        began = time.monotonic()
        invocation = self.begin(event)
        outcome = await invocation.outcome
        answered = time.monotonic()
        await invocation.done
        payload = json.loads(outcome.payload) if outcome.payload else None
        return Reply(payload, outcome.error, 1000 * (answered - began), 1000 * (time.monotonic() - began))

    @property
    def alive(self) -> bool:
        return self.environment.alive

    @property
    def runtime_pid(self) -> int:
        """The process of the function. There is one after the first invocation."""
        return self.environment.pids()["runtime"]

    # What AWS does to an environment

    def freeze(self) -> None:
        """What AWS does between two invocations; the emulator does not."""
        os.killpg(os.getpgid(self.runtime_pid), signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> None:
        os.killpg(os.getpgid(self.runtime_pid), signal.SIGCONT)
        self._frozen = False

    async def terminate(self, *, within: float = 5.0) -> float:
        """SIGTERM, as AWS sends it when it takes an environment away; the milliseconds until the runtime has gone."""
        pid = self.runtime_pid
        assert self.environment._process is not None
        began = time.monotonic()
        self.environment._process.terminate()
        while lives(pid):
            assert time.monotonic() - began < within, self.log()[-4000:]
            await asyncio.sleep(GONE_POLL_SECONDS)
        took = 1000 * (time.monotonic() - began)
        await self.environment.stop()
        return took

    def sigterm(self) -> float:
        """SIGTERM straight to the runtime's process group, of which the emulator knows nothing; the monotonic time before."""
        began = time.monotonic()
        os.killpg(os.getpgid(self.runtime_pid), signal.SIGTERM)
        return began

    async def kill(self) -> None:
        """SIGKILL, as for a lack of memory or a lost machine: nobody is told anything."""
        os.killpg(os.getpgid(self.runtime_pid), signal.SIGKILL)
        await self.environment.stop(0)

    async def close(self) -> None:
        if self._frozen and "runtime" in self.environment.pids():
            self.thaw()
        await self.environment.stop()

    # What it says

    def log(self) -> str:
        """What the emulator and the function have printed."""
        return self.log_file.read_text(errors="replace")

    def lines(self, event: str | None = None) -> list[dict[str, Any]]:
        """The JSON lines of the log, those with this `event`."""
        found = []
        for line in self.log().splitlines():
            if line.startswith("{"):
                try:
                    found.append(json.loads(line))
                except json.JSONDecodeError:
                    continue
        return [line for line in found if event is None or line.get("event") == event]


@asynccontextmanager
async def environment_of(
    log_file: Path,
    *,
    folder: Path = ROOT,
    handler: str = HANDLER,
    timeout_seconds: int = 30,
    env: Mapping[str, str] | None = None,
    command: tuple[str, ...] | None = None,
) -> AsyncIterator[LocalEnvironment]:
    """One environment with these variables; `folder` is its working directory. `command` replaces the runtime.

    Its SLACKWATER_DATABASE_URI and SLACKWATER_PROJECT are for the test to say.
    """
    with log_file.open("ab") as log:
        function = Function(
            folder,
            handler=handler,
            timeout_seconds=timeout_seconds,
            variables={**python_path(folder), **SHORT, **(env or {})},
            command=command,
        )
        local = LocalEnvironment(EmulatedEnvironment(function, log=log), log_file)
        try:
            await local.environment.start()
            yield local
        finally:
            await local.close()


@asynccontextmanager
async def gateway_of(
    folder: Path,
    project: Path,
    *,
    env: Mapping[str, str] | None = None,
    environments: int = 2,
    timeout_seconds: int = 30,
    options: tuple[str, ...] = (),
    name: str = "lambda",
) -> AsyncIterator[ServerProcess]:
    """`slackwater lambda` in a process of its own, ready: `.url` is the gateway's.

    `env` is that of the command, from which the function gets SLACKWATER_…; `options` are more of the command line.
    """
    command = [
        *(str(Path(sys.executable).with_name("slackwater")), "lambda", "--port", "0"),
        *("--project", str(project), "--environments", str(environments)),
        *("--timeout", str(timeout_seconds), "--schedule-seconds", "0", *options),
    ]
    server = _launch(name, command, folder, {**clean_environment(), **SHORT, **(env or {})})
    try:
        await _until_listening(server)
        yield server
    finally:
        if server.alive:
            server.sigterm()
            try:
                await server.wait(15)
            finally:
                server.process.kill()
                server.process.wait()


def _launch(name: str, command: list[str], folder: Path, env: Mapping[str, str]) -> ServerProcess:
    out, err = folder / f"{name}.out", folder / f"{name}.err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            command,
            cwd=folder,  # nobody's .env
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
    return ServerProcess(name, process, out, err)


async def _until_listening(server: ServerProcess, timeout: float = 60) -> None:
    # Not by a request, which would start an environment.
    deadline = time.monotonic() + timeout
    while not server.url:
        for line in server.out.read_text().splitlines():
            if line.startswith("slackwater.ready url="):
                server.url = line.removeprefix("slackwater.ready url=").strip()
        assert server.alive, server.tail()
        assert time.monotonic() < deadline, server.tail()
        await asyncio.sleep(0.02)


def request(
    method: str, path: str, body: object = None, *, headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The event that an HTTP API makes of a request."""
    raw, _, query = path.partition("?")
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": raw,
        "rawQueryString": query,
        "headers": {"host": "127.0.0.1", "content-type": "application/json", **(headers or {})},
        "requestContext": {
            "accountId": "012345678912",
            "apiId": "local",
            "domainName": "127.0.0.1",
            "http": {
                "method": method,
                "path": raw,
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
                "userAgent": "test",
            },
            "requestId": "test",
            "routeKey": "$default",
            "stage": "$default",
            "time": "24/Nov/2026:00:00:00 +0000",
            "timeEpoch": 1795478400000,
        },
        "isBase64Encoded": False,
    }
    if body is not None:
        event["body"] = json.dumps(body)
    return event


def python_path(folder: Path) -> dict[str, str]:
    """Where the processes of a function find its modules, ours, and a clock that may be wrong."""
    return {"PYTHONPATH": os.pathsep.join(map(str, (SITE, folder, ROOT, *SOURCES)))}


def lives(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
