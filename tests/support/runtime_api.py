"""A Runtime API and Extensions API of our own. Unlike the emulator's it passes a response on as it comes, as AWS does."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import h11

from slackwater.emulator.function import Function
from tests.support.emulator import python_path
from tests.support.server import ROOT, SHORT

ARN = "arn:aws:lambda:us-east-1:012345678912:function:slackwater:live"
TRACE = "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1"
BOOTSTRAP = ROOT / "handler" / "slackwater_lambda" / "bootstrap.sh"
NULS = b"\0" * 8


@dataclass(eq=False)
class Invocation:
    """An event, and what the runtime says of it."""

    request_id: str
    event: Any
    deadline: float
    headers: dict[str, str] = field(default_factory=dict)
    """Of the runtime's POST."""
    body: bytearray = field(default_factory=bytearray)
    trailers: dict[str, str] = field(default_factory=dict)
    ended: str = ""
    """`response`, `error`, or `truncated`: its connection was closed in the middle."""
    reading: asyncio.Event = field(default_factory=asyncio.Event)
    """While it is not set, nobody takes the response."""
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def add(self, **changes: Any) -> None:
        async with self._news:
            for name, value in changes.items():
                setattr(self, name, value)
            self._news.notify_all()

    async def until(self, condition: Any, seconds: float = 20) -> None:
        """Wait until `condition(self)` holds."""
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(lambda: condition(self))

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body of a streamed response, as it comes, after its JSON."""
        await self.until(lambda self: NULS in self.body or self.ended)
        sent = self.body.index(NULS) + len(NULS)
        while not self.ended or len(self.body) > sent:
            chunk, sent = bytes(self.body[sent:]), len(self.body)
            if chunk:
                yield chunk
            else:
                await self.until(lambda self: self.ended or len(self.body) > sent)  # noqa: B023

    async def end(self) -> Invocation:
        await self.until(lambda self: self.ended)
        return self

    @property
    def streamed(self) -> bool:
        return self.headers.get("lambda-runtime-function-response-mode") == "streaming"

    @property
    def answer(self) -> dict[str, Any]:
        """Status, headers and cookies of a streamed response."""
        assert self.streamed, self
        assert self.headers["content-type"] == "application/vnd.awslambda.http-integration-response"
        answer: dict[str, Any] = json.loads(self.body.partition(NULS)[0])
        return answer

    @property
    def content(self) -> bytes:
        """The body of a streamed response."""
        return bytes(self.body.partition(NULS)[2])

    @property
    def result(self) -> Any:
        """What was returned, or the error."""
        assert not self.streamed, self
        return json.loads(self.body)

    @property
    def error(self) -> tuple[str, dict[str, Any]] | None:
        """Type and body of the error in the trailers."""
        if not self.trailers:
            return None
        body = base64.b64decode(self.trailers["lambda-runtime-function-error-body"])
        return self.trailers["lambda-runtime-function-error-type"], json.loads(body)


class RuntimeApi:
    """Serves one execution environment. `happened` is what the runtime and its extension have said, in order."""

    def __init__(self) -> None:
        self.address = ""
        self.happened: list[str] = []
        self.said = asyncio.Condition()
        self.init_error: Invocation | None = None
        self.copies = asyncio.Event()
        """Set when a snapshot is to be restored."""
        self._numbers = count(1)
        self._events: asyncio.Queue[Invocation] = asyncio.Queue()
        self._extension: asyncio.Queue[Invocation] = asyncio.Queue()
        self._invocations: dict[str, Invocation] = {}
        self._has_extension = False
        self._server: asyncio.Server | None = None
        self._lines: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[RuntimeApi]:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            await self.close()

    async def close(self) -> None:
        """Cut every line."""
        assert self._server is not None
        self._server.close()
        for line in self._lines:
            line.cancel()
        await asyncio.gather(*self._lines, return_exceptions=True)
        await self._server.wait_closed()

    def expect(self, event: object = None, *, seconds: float = 30, reads: bool = True) -> Invocation:
        """An invocation that is known, and not given to the runtime."""
        number = next(self._numbers)
        invocation = Invocation(f"request-{number}", event, time.time() + seconds)
        if reads:
            invocation.reading.set()
        self._invocations[invocation.request_id] = invocation
        return invocation

    def invoke(self, event: object, *, seconds: float = 30) -> Invocation:
        """Give the event to the runtime. Not before it is `idle`."""
        invocation = self.expect(event, seconds=seconds)
        self._events.put_nowait(invocation)
        if self._has_extension:
            self._extension.put_nowait(invocation)
        return invocation

    async def idle(self, seconds: float = 30) -> None:
        """Wait until the environment would be frozen: the runtime and its extension ask for the next event."""
        wanted = {"next", "extension next"} if self._has_extension else {"next"}
        async with asyncio.timeout(seconds), self.said:
            await self.said.wait_for(lambda: wanted <= self._asking or self.init_error)
        assert self.init_error is None, self.init_error.result

    @property
    def _asking(self) -> set[str]:
        asking = set()
        for what in self.happened:
            if what in ("next", "extension next"):
                asking.add(what)
            elif what.startswith("invoked"):
                asking.discard("next")
            elif what.startswith("extension invoked"):
                asking.discard("extension next")
        return asking

    async def _say(self, what: str) -> None:
        async with self.said:
            self.happened.append(what)
            self.said.notify_all()

    # HTTP

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of ours: asyncio calls the cancellation of its own an error.
        line = asyncio.create_task(self._line(reader, writer), name="runtime-line")
        self._lines.add(line)
        line.add_done_callback(self._lines.discard)

    async def _line(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request per connection."""
        line = _Line(reader, writer)
        try:
            request = await line.event()
            if isinstance(request, h11.Request):
                await self._route(request.target.decode(), dict(_texts(request.headers)), line)
        except OSError:
            pass
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _route(self, path: str, headers: dict[str, str], line: _Line) -> None:
        if path.endswith("/runtime/invocation/next"):
            await self._next(line)
        elif path.endswith("/extension/register"):
            self._has_extension = True
            assert json.loads(await line.body()) == {"events": ["INVOKE"]}
            await self._say("extension registered")
            await line.answer(200, {"Lambda-Extension-Identifier": "extension-1"}, {"functionName": "x"})
        elif path.endswith("/extension/event/next"):
            await self._extension_next(line)
        elif path.endswith("/runtime/restore/next"):
            await self._say("snapshot")
            await self.copies.wait()
            await line.answer(200)
        elif path.endswith("/runtime/init/error"):
            self.init_error = Invocation("init", None, 0, headers, body=bytearray(await line.body()))
            await self._say("init error")
            await line.answer(202)
        else:
            await self._result(path, headers, line)

    async def _next(self, line: _Line) -> None:
        await self._say("next")
        invocation = await self._events.get()
        await self._say(f"invoked {invocation.request_id}")
        headers = {
            "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
            "Lambda-Runtime-Deadline-Ms": str(int(invocation.deadline * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": ARN,
            "Lambda-Runtime-Trace-Id": TRACE,
        }
        await line.answer(200, headers, invocation.event)

    async def _extension_next(self, line: _Line) -> None:
        await self._say("extension next")
        invocation = await self._extension.get()
        await self._say(f"extension invoked {invocation.request_id}")
        event = {
            "eventType": "INVOKE",
            "deadlineMs": int(invocation.deadline * 1000),
            "requestId": invocation.request_id,
            "invokedFunctionArn": ARN,
        }
        await line.answer(200, {}, event)

    async def _result(self, path: str, headers: dict[str, str], line: _Line) -> None:
        request_id, what = path.rsplit("/", 2)[1:]
        invocation = self._invocations[request_id]
        await invocation.add(headers=headers)
        try:
            while True:
                await invocation.reading.wait()
                event = await line.event()
                if isinstance(event, h11.EndOfMessage):
                    trailers = dict(_texts(event.headers))
                    break
                assert isinstance(event, h11.Data), event
                invocation.body += event.data
                await invocation.add()
        except (OSError, h11.RemoteProtocolError):
            await invocation.add(ended="truncated")
            return
        await self._say(f"{what} {request_id}")
        await line.answer(202)
        await invocation.add(trailers=trailers, ended=what)


class _Line:
    """A connection of the runtime or its extension."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._protocol = h11.Connection(h11.SERVER)

    async def event(self) -> Any:
        while (event := self._protocol.next_event()) is h11.NEED_DATA:
            self._protocol.receive_data(await self._reader.read(65536))
        return event

    async def body(self) -> bytes:
        body = b""
        while isinstance(event := await self.event(), h11.Data):
            body += event.data
        return body

    async def answer(
        self, status: int, headers: Mapping[str, str] | None = None, body: object = None
    ) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        lines = [*(headers or {}).items(), ("Content-Length", str(len(content)))]
        for event in (
            h11.Response(status_code=status, headers=lines),
            h11.Data(data=content),
            h11.EndOfMessage(),
        ):
            self._writer.write(self._protocol.send(event) or b"")
        await self._writer.drain()


def _texts(headers: Any) -> list[tuple[str, str]]:
    return [(name.decode().lower(), value.decode()) for name, value in headers]


@dataclass(eq=False)
class StreamingEnvironment:
    """One execution environment: the bootstrap in a process of its own, and the APIs that it finds."""

    api: RuntimeApi
    process: subprocess.Popen[bytes]
    log_file: Path

    async def invoke(self, event: object, *, seconds: float = 30) -> Invocation:
        """Invoke as soon as the environment is free, and wait for nothing else."""
        await self.api.idle()
        return self.api.invoke(event, seconds=seconds)

    async def gone(self, seconds: float = 20) -> int:
        """The exit code of its process."""
        async with asyncio.timeout(seconds):
            while (code := self.process.poll()) is None:
                await asyncio.sleep(0.01)
        return code

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")


@asynccontextmanager
async def streaming_environment(
    log_file: Path, *, folder: Path = ROOT, env: Mapping[str, str] | None = None
) -> AsyncIterator[StreamingEnvironment]:
    """An environment of the function that streams, started as Lambda starts it: by its wrapper script."""
    async with RuntimeApi().serve() as api:
        process = _start(log_file, folder, {**(env or {}), "AWS_LAMBDA_RUNTIME_API": api.address})
        environment = StreamingEnvironment(api, process, log_file)
        try:
            yield environment
        finally:
            process.send_signal(signal.SIGTERM)
            with suppress(TimeoutError):
                await environment.gone(3)
            process.kill()
            process.wait()


def _start(log_file: Path, folder: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    function = Function(folder, variables={**python_path(folder), **SHORT, **env})
    with log_file.open("ab") as log:
        return subprocess.Popen(
            # What comes after the interpreter is what the script has to leave out.
            [BOOTSTRAP, sys.executable, "/var/runtime/bootstrap.py"],
            cwd=folder,
            env={**function.environment(), "LAMBDA_TASK_ROOT": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
