"""What is remembered of a login while its user is at the provider: in a signed cookie of the browser that began it."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from slackwater.identity.oidc.errors import LoginGone, ProviderRefused
from slackwater.identity.oidc.metadata import Metadata

SECONDS = 600
"""How long a user may take."""

CODE_CHARACTERS = 4096

_ERROR = re.compile(r"[a-z_]{1,64}")


@dataclass(frozen=True, slots=True)
class Login:
    """One that has begun."""

    provider: str
    """Its name."""
    state: str
    """Comes back with the answer, which is thereby the answer to this login."""
    nonce: str
    """Comes back inside the ID token, which is thereby made for this login."""
    verifier: str
    """Of PKCE: whoever steals the code cannot use it."""
    redirect_uri: str
    next: str
    """A path of this server."""
    link_to: str | None = None
    """The id of the user who adds the provider to their account."""

    @classmethod
    def begin(cls, provider: str, redirect_uri: str, next: str, link_to: str | None = None) -> Self:
        """With 256 random bits each."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        return cls(provider, state, nonce, verifier, redirect_uri, next, link_to)

    @property
    def claims(self) -> dict[str, str | None]:
        """For the token."""
        return asdict(self)

    @classmethod
    def of(cls, claims: Mapping[str, Any]) -> Self:
        """Of a token that was verified."""
        values: dict[str, Any] = {field.name: claims.get(field.name) for field in fields(cls)}
        return cls(**values)

    @property
    def digest(self) -> bytes:
        """By which it is known in the database."""
        return hashlib.sha256(self.state.encode()).digest()

    def is_answered_by(self, provider: str, state: str | None) -> bool:
        """Whether an answer of this provider, with this state, is the answer to this login."""
        same = hmac.compare_digest(self.state.encode(), (state or "").encode())
        return same and provider == self.provider


def code_of(answer: Mapping[str, str], metadata: Metadata) -> str:
    """The code in a provider's answer. Raises ProviderRefused if it has none, LoginGone if it is another provider's."""
    # RFC 9207: another provider that a user was lured to could pass its own code off as this one's.
    issuer = answer.get("iss")
    if issuer != metadata.issuer and (issuer is not None or metadata.answers_with_issuer):
        raise LoginGone
    if "error" in answer:
        error = answer["error"]
        raise ProviderRefused(error if _ERROR.fullmatch(error) else None)
    code = answer.get("code", "")
    if not code or len(code) > CODE_CHARACTERS:
        raise ProviderRefused
    return code
