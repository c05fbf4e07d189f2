"""The headers that let a browser do nothing with a response but read it: on every one, whoever made it.

A header that a response brings itself stays: a page says what it loads. A page of the project's own application that says nothing may
load what it likes, since nobody here knows what it needs; the other headers it gets as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from starlette.types import Message, Scope, Send

_READ_ONLY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
"""For JSON and streams: shown as a page, they load and run nothing, and are shown in no frame."""
_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),  # ids of threads are in URLs
)
_OVER_TLS = (b"strict-transport-security", b"max-age=31536000")
"""Of this host alone, and in no browser's own list: the rest of the domain is not ours to decide about."""

_HEADERS: Mapping[tuple[bool, bool], tuple[tuple[bytes, bytes], ...]] = {
    (tls, custom): (*_ALWAYS, *(() if custom else (_READ_ONLY,)), *((_OVER_TLS,) if tls else ()))
    for tls in (False, True)
    for custom in (False, True)
}

_STARTS = frozenset({"http.response.start", "websocket.http.response.start"})
_CUSTOM = "slackwater.custom"


def of_custom_app(message: Message) -> Message:
    """The message, marked as one of the project's own application."""
    return {**message, _CUSTOM: True}


def with_security(
    own: Iterable[tuple[bytes, bytes]], *, tls: bool = False, custom: bool = False
) -> list[tuple[bytes, bytes]]:
    """A response's own headers, and those that it lacks."""
    headers = list(own)
    names = {name.lower() for name, _ in headers}
    return [*headers, *(header for header in _HEADERS[tls, custom] if header[0] not in names)]


def secured(scope: Scope, send: Send) -> Send:
    """`send`, which adds the headers. Whether the request came over TLS, the server or the gateway in front of it has said."""
    tls = scope.get("scheme") in ("https", "wss")

    async def send_secured(message: Message) -> None:
        if message["type"] in _STARTS:
            custom = message.pop(_CUSTOM, False)
            headers = with_security(message.get("headers", ()), tls=tls, custom=custom)
            message = {**message, "headers": headers}
        await send(message)

    return send_secured
