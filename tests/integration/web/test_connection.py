"""The head of a request is bounded in bytes and time, before anybody is known: real sockets, and nothing behind them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import uvicorn
from websockets.asyncio.client import connect

from slackwater.web import connection
from slackwater.web.connection import HEAD_BYTES, Connection

HEAD = b"GET /%d HTTP/1.1\r\nhost: localhost\r\n"


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the body that was sent; `/slow` takes a while."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        return
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for part in (b"slow", b"ly", b" ") if scope["path"] == "/slow" else ():
        await send({"type": "http.response.body", "body": part, "more_body": True})
        await asyncio.sleep(0.3)
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Where it listens."""
    config = uvicorn.Config(
        application, port=0, lifespan="off", log_config=None, http=Connection, timeout_keep_alive=60
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    (listener,) = server.servers[0].sockets
    yield listener.getsockname()[1]
    await server.shutdown()


@pytest.fixture
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads have 0.4 s."""
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(connection, "LOOK_SECONDS", 0.1)


async def answer_to(port: int, *parts: bytes, pause: float = 0.0) -> bytes:
    """All that comes back until the server ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = asyncio.create_task(reader.read())
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)
            if answer.done():
                break
    except ConnectionError:
        pass
    try:
        async with asyncio.timeout(10):
            return await answer
    except ConnectionError:
        return b"reset"
    finally:
        writer.close()


@pytest.mark.parametrize(
    "parts",
    [
        [HEAD, b"x-a: ", *[b"a" * 16_384] * 200],
        [HEAD, *[b"x-a: " + b"a" * 1000 + b"\r\n"] * 2000],
        [HEAD + b"x-a: " + b"a" * (HEAD_BYTES + 1) + b"\r\n\r\n"],
        [b"GET /" + b"a" * (HEAD_BYTES + 1) + b" HTTP/1.1\r\nhost: localhost\r\n\r\n"],
        [b"GET /", *[b"a" * 16_384] * 200],
    ],
    ids=["one endless", "many", "one in one piece", "a path", "an endless path"],
)
async def test_a_head_that_is_too_large_is_refused(port: int, parts: list[bytes]) -> None:
    answer = await answer_to(port, *parts)
    assert answer == b"reset" or answer.startswith(b"HTTP/1.1 431 ")


async def test_a_head_of_usual_size_in_many_pieces_is_read(port: int) -> None:
    lines = [b"x-%d: " % number + b"a" * 4000 + b"\r\n" for number in range(15)]
    answer = await answer_to(port, HEAD, *lines, b"connection: close\r\n\r\n", pause=0.005)
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([], b""),
        ([b"GET / HTT"], b"HTTP/1.1 408 "),
        ([HEAD, *[b"x: y\r\n"] * 100], b"HTTP/1.1 408 "),
        ([b"\r\n"] * 100, b""),
        ([HEAD + b"\r\n", *[b"\r\n"] * 100], b"HTTP/1.1 200 OK"),
        ([HEAD + b"\r\n", HEAD, *[b"x: y\r\n"] * 100], b"HTTP/1.1 408 "),
    ],
    ids=["nothing", "one piece", "trickling", "line ends", "line ends after a request", "a second request"],
)
@pytest.mark.usefixtures("_hasty")
async def test_a_head_that_is_late_ends_the_connection(
    port: int, parts: list[bytes], expected: bytes
) -> None:
    answer = await answer_to(port, *parts, pause=0.05)
    assert expected in answer
    assert answer.count(b"HTTP/1.1") == (
        0 if not expected else 2 if parts[0].endswith(b"\r\n\r\n") and expected.endswith(b"408 ") else 1
    )


@pytest.mark.usefixtures("_hasty")
async def test_what_comes_after_the_head_has_its_own_time(port: int) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"x" * 20_000
            await asyncio.sleep(0.08)

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
        assert len((await http.post("/", content=body())).content) == 200_000
        assert (await http.get("/slow")).text == "slowly "
        await asyncio.sleep(0.6)  # idle between two requests
        assert (await http.get("/slow")).text == "slowly "


@pytest.mark.usefixtures("_hasty")
async def test_a_websocket_is_no_late_request(port: int) -> None:
    async with connect(f"ws://127.0.0.1:{port}/", proxy=None) as socket:
        for _ in range(2):
            await asyncio.sleep(0.6)
            await socket.send("still here")
            assert await socket.recv() == "still here"
