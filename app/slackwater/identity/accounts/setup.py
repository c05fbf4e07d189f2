"""How the first administrator is made: by a link, or by whoever comes first."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable
from enum import StrEnum
from urllib.parse import urlencode

from slackwater.kit.moment import Moment

DONE_SECONDS = 60.0
"""How long it is relied on that there is an administrator."""

SETUP_PATH = "/api/v1/auth/setup"
"""Of the link: it sets a cookie with its token, and leads to the page's form, which has no field for it."""


class SetupMode(StrEnum):
    """What the first administrator needs."""

    TOKEN = "token"  # noqa: S105 - no secret
    """The link that the log shows, or `slackwater users setup` prints."""
    OPEN = "open"
    """Nothing: whoever comes first is it."""
    LOCAL = "local"
    """Nothing on this machine, elsewhere the link."""

    def is_open_to(self, *, trusted: bool) -> bool:
        """Whether no link is needed by a caller who is on this machine (`trusted`), or is not."""
        return self is SetupMode.OPEN or (self is SetupMode.LOCAL and trusted)


class SetupQuestion:
    """Whether the first administrator is still to be made. Belongs to one event loop.

    Every page asks before somebody has logged in. That there is an administrator is relied on for a minute; that there is none, never:
    those who come while the question is put share the answer to the next one.
    """

    def __init__(self, ask: Callable[[], Awaitable[bool]]) -> None:
        self._ask = ask
        self._asking = asyncio.Lock()
        self._last: tuple[Moment, bool] | None = None

    async def needed(self) -> bool:
        came = Moment.now()
        if (known := self._known(came)) is not None:
            return known
        async with self._asking:
            if (known := self._known(came)) is not None:
                return known
            asked = Moment.now()
            needed = await self._ask()
            self._last = asked, needed
            return needed

    def _known(self, came: Moment) -> bool | None:
        if self._last is None:
            return None
        asked, needed = self._last
        if asked.monotonic >= came.monotonic or (not needed and asked.age < DONE_SECONDS):
            return needed
        return None


def new_token() -> str:
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> bytes:
    """A plain hash is enough: there is nothing to guess."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def setup_link(url: str, token: str) -> str:
    """What to open in a browser, at a server that is reached by `url`."""
    return f"{url.rstrip('/')}{SETUP_PATH}?{urlencode({'token': token})}"
