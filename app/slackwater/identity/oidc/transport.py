"""A transport whose answers are bounded in size. Imports the HTTP client that Authlib speaks through."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2

MOST_BYTES = 512_000
"""Of one answer; providers' longest documents have a tenth of that."""


class AnswerTooLarge(httpx2.TransportError):
    """The answer is larger than a provider's may be, or packed."""


class BoundedTransport(httpx2.AsyncHTTPTransport):
    """Breaks off what is too large before it is in memory."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        await bound(response, request, MOST_BYTES)
        return response


async def bound(response: httpx2.Response, request: httpx2.Request, most_bytes: int) -> None:
    """See that no more of it is read, which has not begun. Raises AnswerTooLarge."""
    # A small answer that is packed may be a large one: none was asked for.
    packed = response.headers.get("content-encoding", "identity").lower() != "identity"
    if packed or int(response.headers.get("content-length", "0")) > most_bytes:
        await response.aclose()
        raise AnswerTooLarge("the answer is packed or too large", request=request)
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    response.stream = _Bounded(response.stream, request, most_bytes)


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, request: httpx2.Request, most_bytes: int) -> None:
        self._stream = stream
        self._request = request
        self._most_bytes = most_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > self._most_bytes:
                raise AnswerTooLarge("the answer is too large", request=self._request)
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
