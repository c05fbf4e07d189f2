"""A form of files, parsed while it arrives: no more of it is in memory than has just arrived."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from slackwater.errors import ApiError, BadRequest

IDLE_SECONDS = 30.0
"""How long the next bytes may take."""

SLICE = 65_536
"""Bytes that are parsed at a time. On AWS Lambda a body comes at once."""

HEADERS = 16
HEADER_BYTES = 8192
"""Of each part."""


class NotAForm(BadRequest):
    """Send the files as multipart/form-data."""


class BrokenForm(BadRequest):
    """The form cannot be understood, or has no end: send it again."""


class UploadTooSlow(ApiError):
    """The upload did not arrive in time: send it faster, or less."""

    status = 408
    headers = {"Connection": "close"}  # noqa: RUF012


class UploadBroken(ApiError):
    """The client has gone."""

    status = 400


@dataclass(frozen=True, slots=True)
class PartBegins:
    """A part of the form."""

    filename: str | None
    """None if it is no file."""


@dataclass(frozen=True, slots=True)
class PartEnds:
    """The part is complete."""


FormEvent = PartBegins | PartEnds | bytes


def boundary_of(request: Request) -> bytes:
    """Raises NotAForm."""
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise NotAForm
    return boundary


async def events_of(request: Request, boundary: bytes) -> AsyncGenerator[FormEvent]:
    """What the form consists of, in its order. Raises BrokenForm and UploadTooSlow."""
    form = _Form(boundary)
    body = request.stream()
    while True:
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                chunk = await anext(body, None)
        except TimeoutError:
            raise UploadTooSlow from None
        except ClientDisconnect:
            raise UploadBroken from None
        if chunk is None:
            break
        for at in range(0, len(chunk), SLICE):
            for event in form.feed(chunk[at : at + SLICE]):
                yield event
    if not form.is_whole:
        raise BrokenForm


class _Form:
    """Collects what the parser calls back with."""

    def __init__(self, boundary: bytes) -> None:
        self.is_whole = False
        self._events: list[FormEvent] = []
        self._data = bytearray()
        self._header: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        self._disposition = b""
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part_begins,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_ends,
                    "on_headers_finished": self._headers_end,
                    "on_part_data": self._part_data,
                    "on_part_end": self._part_ends,
                    "on_end": self._end,
                },
                max_header_count=HEADERS,
                max_header_size=HEADER_BYTES,
            )
        except FormParserError:
            raise BrokenForm from None

    def feed(self, data: bytes) -> list[FormEvent]:
        """What these bytes bring. Raises BrokenForm."""
        try:
            self._parser.write(data)
        except FormParserError:
            raise BrokenForm from None
        self._pour()
        events, self._events = self._events, []
        return events

    def _pour(self) -> None:
        """One piece of what the parser finds in many."""
        if self._data:
            self._events.append(bytes(self._data))
            self._data.clear()

    def _part_begins(self) -> None:
        self._disposition = b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header[0].extend(data[start:end])

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1].extend(data[start:end])

    def _header_ends(self) -> None:
        name, value = self._header
        if name.lower() == b"content-disposition":
            self._disposition = bytes(value)
        self._header = (bytearray(), bytearray())

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._disposition)
        filename = options.get(b"filename")
        self._events.append(PartBegins(None if filename is None else filename.decode("utf-8", "replace")))

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._data.extend(data[start:end])

    def _part_ends(self) -> None:
        self._pour()
        self._events.append(PartEnds())

    def _end(self) -> None:
        self.is_whole = True
