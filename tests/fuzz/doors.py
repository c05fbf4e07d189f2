"""Where calls go in: two server processes, which may be stopped, and a function on the emulator of AWS Lambda."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from tests.fuzz.wire import Answer, Letter, Wire
from tests.support.emulator import LocalEnvironment, Reply, request
from tests.support.server import ServerProcess


class Door(Protocol):
    """Something that answers."""

    @property
    def stopping(self) -> bool:
        """Whether it may fail to answer, as it has been stopped."""

    async def send(self, letter: Letter) -> Answer: ...


@dataclass(eq=False)
class ServerDoor:
    """A server process."""

    server: ServerProcess
    wire: Wire = field(init=False)

    def __post_init__(self) -> None:
        self.wire = Wire(self.server.url)

    @property
    def stopping(self) -> bool:
        return self.server.stopped_at > 0

    async def send(self, letter: Letter) -> Answer:
        return await self.wire.send(letter)

    async def parts(self, letter: Letter, says: Sequence[Any]) -> AsyncGenerator[bytes]:
        """What a stream or a WebSocket says, until it ends or nobody listens any more."""
        said = self._messages(letter, says) if letter.method == "WS" else self.wire.parts(letter)
        async with aclosing(said):
            async for part in said:
                yield part

    async def _messages(self, letter: Letter, says: Sequence[Any]) -> AsyncGenerator[bytes]:
        url = f"ws{self.server.url.removeprefix('http')}{letter.path}"
        try:
            async with connect(url, additional_headers=dict(letter.headers)) as socket:
                for message in says:
                    await socket.send(json.dumps(message))
                async for heard in socket:
                    yield heard.encode() if isinstance(heard, str) else heard
        except InvalidStatus as error:
            yield error.response.body or b""
        except InvalidMessage:  # closed before it was a WebSocket
            if not self.stopping:
                raise
        except ConnectionClosed:
            return


@dataclass(eq=False)
class LambdaDoor:
    """An execution environment, which takes one event at a time."""

    environment: LocalEnvironment
    stopping: bool = field(default=False, init=False)
    calls: int = field(default=0, init=False)
    _free: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def send(self, letter: Letter) -> Answer:
        event = request(letter.method, letter.path, headers=letter.headers)
        if letter.body is not None:
            event["body"] = letter.body.decode()
        reply = await asyncio.shield(asyncio.ensure_future(self._invoke(event)))
        assert reply.error is None, (reply, self.environment.log()[-4000:])
        answer = reply.payload
        body = answer.get("body") or ""
        content = base64.b64decode(body) if answer.get("isBase64Encoded") else body.encode()
        headers = {name.lower(): str(value) for name, value in answer.get("headers", {}).items()}
        return Answer(int(answer["statusCode"]), headers, content)

    async def _invoke(self, event: object) -> Reply:
        """To its end, whether or not somebody still waits for the answer."""
        async with self._free:
            self.calls += 1
            return await self.environment.invoke(event)
