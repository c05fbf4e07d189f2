"""What stands in front of a function that streams: a Function URL, small enough to read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from slackwater.emulator import events
from tests.support.runtime_api import NULS, Invocation, StreamingEnvironment


@dataclass(eq=False)
class FunctionUrl:
    """Gives each request to the environment, `seconds` for each, and passes the answer on as it comes."""

    environment: StreamingEnvironment
    seconds: float
    answers: list[tuple[str, Invocation]] = field(default_factory=list)
    """Method and path, and what became of it."""
    url: str = ""
    _free: asyncio.Lock = field(default_factory=asyncio.Lock)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[FunctionUrl]:
        config = uvicorn.Config(self, port=0, lifespan="off", log_config=None, timeout_graceful_shutdown=1)
        server = _Server(config)
        task = asyncio.create_task(server.serve(), name="front")
        while not server.started:
            await asyncio.sleep(0.005)
        self.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.should_exit = True
            await task

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        assert not message["more_body"]
        event = events.from_request(scope, message["body"], streams=True)
        async with self._free:
            invocation = await self.environment.invoke(event, seconds=self.seconds)
        self.answers.append((f"{scope['method']} {scope['path']}", invocation))
        await invocation.until(lambda seen: NULS in seen.body or seen.ended)
        answer = invocation.answer
        headers = [(name.encode(), value.encode()) for name, value in answer["headers"].items()]
        await send({"type": "http.response.start", "status": answer["statusCode"], "headers": headers})
        async for chunk in invocation.chunks():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if invocation.ended == "response" and invocation.error is None:
            await send({"type": "http.response.body", "body": b""})


class _Server(uvicorn.Server):
    """In the loop of a test, whose signals are not its own."""

    def capture_signals(self) -> Any:
        return nullcontext()
