"""What stands in front of an execution environment: takes its answers whole, or for a limited time only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import uvicorn
from fastapi import FastAPI
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from support.parts import Part

from slackwater.kit.json_format import RESPONSE_BYTES, escaped_size
from slackwater.services import Services
from slackwater.web.delivery import SCOPE_KEY, Delivery


class Holds:
    """Nodes that wait until the test lets them go; the others pass."""

    def __init__(self) -> None:
        self._held: dict[str, asyncio.Event] = {}
        self.reached: set[str] = set()

    def reset(self) -> None:
        for event in self._held.values():
            event.set()
        self.__init__()  # type: ignore[misc]

    def hold(self, name: str) -> None:
        self._held[name] = asyncio.Event()

    def let_go(self, name: str) -> None:
        self._held[name].set()

    async def until_reached(self, name: str) -> None:
        async with asyncio.timeout(10):
            while name not in self.reached:
                await asyncio.sleep(0.01)

    async def pass_by(self, name: str) -> None:
        self.reached.add(name)
        if name in self._held:
            async with asyncio.timeout(30):
                await self._held[name].wait()


holds = Holds()


@dataclass
class Environment:
    """One application that is running."""

    app: FastAPI
    services: Services
    state: dict[str, Any]


Start = Callable[..., Awaitable[Environment]]


@dataclass
class Answer:
    """What a client was given."""

    method: str
    path: str
    query: str
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    seconds: float = 0.0
    complete: bool = False
    began: float = 0.0

    @property
    def is_page(self) -> bool:
        return self.path.endswith("/stream")

    @property
    def events(self) -> list[tuple[str, str, str]]:
        """Name, data and id of each event."""
        found = []
        for block in self.body.decode().split("\r\n\r\n"):
            fields = dict(
                line.split(": ", 1) for line in block.split("\r\n") if not line.startswith(":") and line
            )
            if "event" in fields:
                found.append((fields["event"], fields["data"], fields.get("id", "")))
        return found


class Gateway:
    """Serves its environments in turn, `seconds` for each answer. `live` None: as a container does."""

    def __init__(
        self,
        *environments: Environment,
        live: bool | None = False,
        seconds: float = 28.0,
    ) -> None:
        self.environments = list(environments)
        self.live = live
        self.seconds = seconds
        self.on_answer: Callable[[Answer], Awaitable[None]] | None = None
        """What happens while an answer is under way to its client."""
        self.answers: list[Answer] = []
        self.url = ""
        self._numbers = count()

    @property
    def pages(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.is_page]

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[LangGraphClient]:
        """A stock client of this gateway."""
        server = uvicorn.Server(
            uvicorn.Config(self, port=0, lifespan="off", log_config=None, timeout_graceful_shutdown=1)
        )
        server.capture_signals = _no_signals  # type: ignore[method-assign]
        task = asyncio.create_task(server.serve(), name="gateway")
        while not server.started:
            assert not task.done(), task.exception()
            await asyncio.sleep(0.005)
        self.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        try:
            async with get_client(url=self.url, timeout=60, api_key=None) as client:
                yield client
        finally:
            server.should_exit = True
            await task

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        environment = self.environments[next(self._numbers) % len(self.environments)]
        answer = Answer(
            scope["method"], scope["path"], scope["query_string"].decode(), began=time.monotonic()
        )
        self.answers.append(answer)
        scope = {**scope, "state": dict(environment.state)}
        if self.live is None:
            await environment.app(scope, receive, self._noting(answer, send))
            return
        scope[SCOPE_KEY] = Delivery(until=answer.began + self.seconds, live=self.live)
        if self.live:
            async with asyncio.timeout(self.seconds):
                await environment.app(scope, receive, self._noting(answer, send))
            return
        # No server tells an execution environment that its client is gone.
        async with asyncio.timeout(self.seconds):
            await environment.app(scope, _deaf(receive), self._noting(answer, None))
        assert answer.complete, "nobody can abort an answer that is collected"
        assert escaped_size(answer.body) <= RESPONSE_BYTES
        if self.on_answer is not None:
            await self.on_answer(answer)
        headers = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    def _noting(self, answer: Answer, send: Any) -> Any:
        async def note(message: Any) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                answer.body += message.get("body", b"")
                answer.complete = not message.get("more_body")
                answer.seconds = time.monotonic() - answer.began
            if send is not None:
                await send(message)

        return note


def _deaf(receive: Any) -> Any:
    async def receive_body() -> Any:
        message = await receive()
        if message["type"] == "http.disconnect":
            await asyncio.Event().wait()
        return message

    return receive_body


@contextmanager
def _no_signals() -> Iterator[None]:
    """They are for the applications."""
    yield


async def ended(gateway: Gateway) -> None:
    """Wait until no run is left."""
    database = gateway.environments[0].services.database
    async with asyncio.timeout(10):
        while await database.fetch("select 1 from slackwater.runs where status in ('pending', 'running')"):
            await asyncio.sleep(0.01)


# What clients read


def without_fillers(parts: Iterable[Part]) -> list[Part]:
    """A page without an event repeats what the stream began with."""
    kept: list[Part] = []
    for part in parts:
        if part[0] != "metadata" or part not in kept:
            kept.append(part)
    return kept


async def read(client: LangGraphClient, graph: str, given: Any, **options: Any) -> list[Part]:
    """Everything that a client gets to see of a run that it starts and streams."""
    thread = await client.threads.create()
    parts = client.runs.stream(thread["thread_id"], graph, input=given, **options)
    return without_fillers([(part.event, part.data) async for part in parts])
