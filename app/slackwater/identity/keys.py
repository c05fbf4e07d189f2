"""API keys: made once, stored as a hash, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

INTERNAL_TOKEN = "x-deerflow-internal-token"  # noqa: S105 - a name
"""The header in which channel processes of DeerFlow send what they are given as DEER_FLOW_INTERNAL_AUTH_TOKEN: here, a key."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
RESERVED_NAMES = frozenset({"system", "local"})
"""Owners that are nobody's key: see `slackwater.identity.principal`."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """Who a key belongs to, and the SHA-256 of the key. The key itself is never stored."""

    name: str
    sha256: str

    @classmethod
    def parse(cls, text: str) -> ApiKey:
        """Read `name:sha256hex`. Raises ValueError, which says what is expected."""
        name, _, digest = text.strip().partition(":")
        if not _DIGEST.fullmatch(digest.lower()):
            raise ValueError("each key must be name:sha256hex, as printed by `slackwater keys new NAME`")
        if name in RESERVED_NAMES:
            raise ValueError(f"{name!r} is reserved: choose another key name")
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a valid key name: use at most 64 letters, digits and _ . @ -")
        return cls(name, digest.lower())


def new_key(name: str) -> tuple[str, ApiKey]:
    """A fresh secret for `name`, and what to put into SLACKWATER_API_KEYS. Raises ValueError for a wrong name.

    A plain hash is enough: the secret has 256 random bits, so there is nothing to guess.
    """
    secret = f"sw_{secrets.token_urlsafe(32)}"
    return secret, ApiKey.parse(f"{name}:{_sha256(secret)}")


def find_owner(keys: Iterable[ApiKey], secret: str) -> str | None:
    """The name of the key that `secret` is, or None. Looks at every key, whichever matches."""
    digest, owner = _sha256(secret), None
    for key in keys:
        if hmac.compare_digest(key.sha256, digest):
            owner = key.name
    return owner


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
