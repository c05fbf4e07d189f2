"""How the first administrator is made: by a link, or by whoever comes first."""

from __future__ import annotations

import hashlib
import secrets
from enum import StrEnum
from urllib.parse import urlencode

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


def new_token() -> str:
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> bytes:
    """A plain hash is enough: there is nothing to guess."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def setup_link(url: str, token: str) -> str:
    """What to open in a browser, at a server that is reached by `url`."""
    return f"{url.rstrip('/')}{SETUP_PATH}?{urlencode({'token': token})}"
