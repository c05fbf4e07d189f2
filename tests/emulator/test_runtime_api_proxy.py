"""What the tap reads of the requests that pass."""

from __future__ import annotations

import asyncio

import pytest

from slackwater.emulator.runtime_api_proxy import Observer, Requests, Stream

PATH = "/2018-06-01/runtime/invocation/7c9e/response"
STREAMING = "Lambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n"


class Notes(Observer):
    """Keeps what the tap tells."""

    def __init__(self) -> None:
        self.answers: list[tuple[bool, bytes]] = []
        self.streams: list[Stream] = []

    def on_response(self, failed: bool, payload: bytes) -> None:
        self.answers.append((failed, payload))

    def on_stream(self, stream: Stream) -> None:
        self.streams.append(stream)


def post(path: str, body: bytes, headers: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


async def body_of(stream: Stream) -> bytes:
    async with asyncio.timeout(10):
        return b"".join([part async for part in stream])


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_responses_and_errors_are_found_however_the_bytes_are_cut(size: int) -> None:
    notes = Notes()
    requests = Requests(notes)
    passing = (
        b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n"
        + post(PATH, b'{"a":1}')
        + post(PATH.replace("response", "error"), b'{"errorMessage":"no"}')
        + post("/2018-06-01/runtime/init/error", b"{}")
    )

    for start in range(0, len(passing), size):
        requests.read(passing[start : start + size])

    assert notes.answers == [(False, b'{"a":1}'), (True, b'{"errorMessage":"no"}')]


@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_a_stream_is_told_of_as_soon_as_its_head_has_passed(size: int) -> None:
    notes = Notes()
    requests = Requests(notes)
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\n{STREAMING}\r\n".encode()
    passing = head + chunk(b'{"statusCode":200}' + bytes(8) + b"ebb")

    for start in range(0, len(passing), size):
        requests.read(passing[start : start + size])

    [stream] = notes.streams
    assert stream.head == b'{"statusCode":200}'
    requests.read(chunk(b" and flood") + b"0\r\n\r\n")
    assert await body_of(stream) == b"ebb and flood"
    assert stream.error is None
    assert notes.answers == []


async def test_a_stream_that_was_broken_off_says_so() -> None:
    for end in (b"0\r\nLambda-Runtime-Function-Error-Type: Function.Cut\r\n\r\n", b""):
        notes = Notes()
        requests = Requests(notes)
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\n{STREAMING}\r\n".encode()
        requests.read(head + chunk(b"{}" + bytes(8) + b"ebb") + end)
        requests.close()

        assert await body_of(notes.streams[0]) == b"ebb"
        assert notes.streams[0].error == ("Function.Cut" if end else "Runtime.Cut")


def test_a_stream_without_a_head_is_a_result() -> None:
    notes = Notes()
    requests = Requests(notes)

    requests.read(
        f"POST {PATH} HTTP/1.1\r\nHost: x\r\n{STREAMING}\r\n".encode() + chunk(b'{"a":1}') + b"0\r\n\r\n"
    )

    assert notes.answers == [(False, b'{"a":1}')]


def test_what_is_no_http_is_left_to_the_emulator() -> None:
    notes = Notes()
    requests = Requests(notes)

    requests.read(b"\x16\x03\x01")
    requests.read(post(PATH, b"{}"))

    assert notes.answers == []
