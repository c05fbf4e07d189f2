"""Receivers that are no URLs: chats, which are told in their own words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

SCHEME = "channel:"
"""The `url` of such a receiver begins with it. Nobody can ask for one: a webhook must use http or https."""

ANSWER_BYTES = 65_536
"""So much of an answer is read."""


class ChatCall(NamedTuple):
    """What to POST, and where."""

    url: str
    headers: Mapping[str, str]
    body: bytes


class Sent(NamedTuple):
    """What came of a request."""

    trouble: str | None
    """Why it was not taken, by its status or because nobody answered; None if it was."""
    body: bytes = b""
    """The beginning of the answer."""


Send = Callable[[ChatCall], Awaitable[Sent]]


class Chats(Protocol):
    """Knows how chats are told."""

    @property
    def urls(self) -> Sequence[str]:
        """Those that it knows. The others are for processes that know them."""

    async def tell(self, row: Mapping[str, Any], send: Send) -> str | None:
        """Tell a chat what a row of the outbox says, by one request or several; why it was not told, or None."""
