"""How often somebody may try in a row, whichever process they ask: counted before it is known what has come of it.

An attempt is reserved in the database, for the account and for the address it comes from, and only whoever has got it has a
password compared. So ten that are sent at the same time, to as many processes, are not ten tries more. What is counted is
forgotten when the right password was given, or when nothing was tried for a while.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from slackwater.identity.addresses import network_of


class AttemptKind(StrEnum):
    """Whose attempts are counted."""

    ACCOUNT = "account"
    """At logins to one account, which need not be there, whoever tries."""
    ADDRESS = "address"
    """At logins from one address, to whatever account."""
    PAIR = "pair"
    """At logins to one account from one address: what a login takes off the count of its address."""
    REGISTRATION = "registration"
    """At registrations from one address."""


@dataclass(frozen=True, slots=True)
class AttemptLimit:
    """So many in a row, and then none for a time after the last."""

    most: int
    seconds: float


LOGINS = AttemptLimit(5, 300.0)
REGISTRATIONS = AttemptLimit(20, 3600.0)


@dataclass(frozen=True, slots=True)
class Counted:
    """What an attempt is counted under. The keys are hashes."""

    kinds: Sequence[AttemptKind]
    keys: Sequence[bytes]
    limit: AttemptLimit

    @classmethod
    def login(cls, email: str, address: str) -> Counted:
        """To an account, by its address as it is stored, or by whatever was sent in its place."""
        return cls(
            (AttemptKind.ACCOUNT, AttemptKind.ADDRESS, AttemptKind.PAIR),
            (account_key(email), _key(network_of(address)), _key(f"{email}\0{network_of(address)}")),
            LOGINS,
        )

    @classmethod
    def registration(cls, address: str) -> Counted:
        return cls((AttemptKind.REGISTRATION,), (_key(network_of(address)),), REGISTRATIONS)


def account_key(email: str) -> bytes:
    """Under which attempts to log in to an account are counted."""
    return _key(email)


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
