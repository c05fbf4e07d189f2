"""What an account is, and the session that it has on a device."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

OWNER = "account:"
"""What the owners of users begin with."""

EMAIL_LENGTH = 254
DEVICE_LENGTH = 200

# What web pages accept, too: an address that they do not would lock its user out of them.
_EMAIL = re.compile(r"[a-z0-9_'+-]+(?:\.[a-z0-9_'+-]+)*@(?:[a-z0-9][a-z0-9-]*\.)+[a-z]{2,63}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Role(StrEnum):
    """What somebody may do."""

    ADMIN = "admin"
    """Everything."""
    USER = "user"
    """All of the API that clients use, with what is theirs."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user, as they were when the database was asked."""

    user_id: UUID
    email: str
    role: Role
    needs_setup: bool
    """Somebody else has chosen their password: they have to choose one."""
    token_version: int
    """Sessions with another one are over."""
    disabled: bool

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Account:
        """Of a row with the columns that `queries` selects of users."""
        return cls(
            row["user_id"],
            row["email"],
            Role(row["role"]),
            row["needs_setup"],
            row["token_version"],
            row["disabled_at"] is not None,
        )

    @property
    def owner(self) -> str:
        """Whose their things are."""
        return owner_of(self.user_id)


@dataclass(frozen=True, slots=True)
class Device:
    """Whence somebody calls."""

    address: str
    """Of the client, as far as proxies are trusted to tell it."""
    name: str | None = None
    """As it calls itself: `User-Agent`."""

    @property
    def shown(self) -> str | None:
        """As much of its name as is stored, and nothing that Postgres does not store."""
        return None if self.name is None else _UNPRINTABLE.sub("", self.name)[:DEVICE_LENGTH]


@dataclass(frozen=True, slots=True)
class Opened:
    """A session that has just begun."""

    account: Account
    session_id: UUID
    expires_at: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Session:
    """One that goes on."""

    session_id: UUID
    address: str
    device: str | None
    created_at: datetime
    last_used_at: datetime
    """To the minute."""
    expires_at: datetime


def owner_of(user_id: UUID) -> str:
    """Whose a user's threads and runs are."""
    return f"{OWNER}{user_id}"


def email_of(text: str) -> str | None:
    """The address as it is stored, in lower case; None if it is none."""
    folded = text.strip().lower() if text.isascii() else ""
    return folded if len(folded) <= EMAIL_LENGTH and _EMAIL.fullmatch(folded) else None
