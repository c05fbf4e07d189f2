"""Whom a provider names: a subject, and an e-mail address that is theirs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from slackwater.identity.accounts.account import email_of
from slackwater.identity.oidc.errors import EmailNotVerified, ForeignDomain


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody whom a provider has logged in."""

    issuer: str
    subject: str
    """Theirs for ever, unlike an address."""
    email: str


def person_of(claims: Mapping[str, Any], issuer: str, domains: Collection[str]) -> Person:
    """The person whom the claims name. Raises EmailNotVerified and ForeignDomain."""
    address = claims.get("email")
    # Not "true" and not 1: whoever writes that may mean anything by it.
    verified = claims.get("email_verified") is True
    # In ASCII only: other letters become these when their case is folded, and the address somebody else's.
    email = email_of(address) if verified and isinstance(address, str) else None
    if email is None:
        raise EmailNotVerified
    if domains and email.rpartition("@")[2] not in domains:
        raise ForeignDomain
    return Person(issuer, claims["sub"], email)
