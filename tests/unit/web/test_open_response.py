"""An answer that stays open: signs of life while there is nothing to say, one end, and nothing left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from slackwater.runtime.events.run_reader import StreamCut
from slackwater.web.streams import response
from slackwater.web.streams.response import Left, OpenResponse

BEAT = b": heartbeat\r\n\r\n"


class Client:
    """What a server is to an application: it sends on, may stop reading, and may go."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.turn = 0
        self.turns: list[int] = []
        """What it was at each message."""
        self.reads = asyncio.Event()
        self.reads.set()
        self.is_gone = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.is_gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.turns.append(self.turn)
        if message["type"] == "http.response.body":
            await self.reads.wait()
            self.bodies.append(message["body"])


class Answer:
    """An open response whose chunks the test gives."""

    def __init__(self, seconds: float) -> None:
        self.chunks: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue()
        self.left: list[Left] = []
        self.closed = False
        self.response = OpenResponse(
            self._said(),
            media_type="text/event-stream",
            headers={},
            heartbeat=BEAT,
            seconds=seconds,
            left=self._leave,
        )

    async def _said(self) -> AsyncGenerator[bytes]:
        try:
            while (chunk := await self.chunks.get()) is not None:
                if isinstance(chunk, BaseException):
                    raise chunk
                yield chunk
        finally:
            self.closed = True

    async def _leave(self, how: Left) -> None:
        self.left.append(how)


def names() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("response")}


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


async def test_it_gives_signs_of_life_without_a_task_that_waits_for_them() -> None:
    client, answer = Client(), Answer(0.02)
    served = asyncio.create_task(answer.response({"type": "http"}, client.receive, client.send))
    await until(lambda: client.bodies.count(BEAT) >= 2)
    answer.chunks.put_nowait(b"a")
    await until(lambda: b"a" in client.bodies)
    await until(lambda: client.bodies[-1] == BEAT)
    assert names() == {"response", "response:disconnect"}
    answer.chunks.put_nowait(None)
    await served
    assert client.bodies[-1] == b""
    assert answer.left == [Left.ENDED]
    assert names() == set()


async def test_a_client_that_does_not_read_is_not_waited_for_with_a_sign_of_life() -> None:
    client, answer = Client(), Answer(0.01)
    served = asyncio.create_task(answer.response({"type": "http"}, client.receive, client.send))
    await until(lambda: BEAT in client.bodies)
    client.reads.clear()
    answer.chunks.put_nowait(b"large")
    await until(lambda: answer.response._sending)
    before = len(client.bodies)
    await asyncio.sleep(0.05)
    assert len(client.bodies) == before
    client.is_gone.set()
    await asyncio.wait_for(served, 5)
    assert answer.left == [Left.DISCONNECTED]
    assert answer.closed
    assert names() == set()


async def test_a_cut_does_not_wait_for_a_client_that_has_not_taken_a_sign_of_life() -> None:
    client, answer = Client(), Answer(0.01)
    client.reads.clear()
    served = asyncio.create_task(answer.response({"type": "http"}, client.receive, client.send))
    await until(lambda: "response:heartbeat" in names())
    answer.chunks.put_nowait(StreamCut())
    await asyncio.wait_for(served, 5)
    assert answer.left == [Left.CUT]
    assert client.bodies == []
    assert names() == set()


async def test_no_sign_of_life_comes_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    client, answer = Client(), Answer(0.01)
    is_over = response._any_of

    async def ends_when_a_sign_is_due(*args: Any) -> bool:
        over = await is_over(*args)
        if not over:
            answer.chunks.put_nowait(None)
        return over

    monkeypatch.setattr(response, "_any_of", ends_when_a_sign_is_due)
    await answer.response({"type": "http"}, client.receive, client.send)
    assert client.bodies == [b""]


async def test_what_is_there_at_once_is_sent_in_one_turn_of_the_loop() -> None:
    client, answer = Client(), Answer(60)
    answer.chunks.put_nowait(b"first")
    served = asyncio.create_task(answer.response({"type": "http"}, client.receive, client.send))

    def turn() -> None:
        client.turn += 1
        if not served.done():
            asyncio.get_running_loop().call_soon(turn)

    turn()
    await until(lambda: client.bodies)
    answer.chunks.put_nowait(b"last")
    answer.chunks.put_nowait(None)
    await served
    assert client.bodies == [b"first", b"last", b""]
    head, first, last, end = client.turns
    assert (head, last) == (first, end)


async def test_a_cut_answer_has_no_last_chunk() -> None:
    client, answer = Client(), Answer(60)
    answer.chunks.put_nowait(b"a")
    answer.chunks.put_nowait(StreamCut())
    await answer.response({"type": "http"}, client.receive, client.send)
    assert client.bodies == [b"a"]
    assert answer.left == [Left.CUT]
    assert answer.closed


async def test_a_server_that_gives_up_leaves_nothing_behind() -> None:
    client, answer = Client(), Answer(60)
    served = asyncio.create_task(answer.response({"type": "http"}, client.receive, client.send))
    await until(lambda: len(names()) == 2)
    served.cancel()
    with pytest.raises(asyncio.CancelledError):
        await served
    assert names() == set()
    assert answer.left == []
