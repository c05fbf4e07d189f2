"""Tokens for scripts and channels: valid for minutes, and for one owner.

Whoever can use the database and knows what its signing keys are encrypted by gives them out. They are accepted where the
database says who may call, as `Authorization: Bearer`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from slackwater.errors import TokenInvalid
from slackwater.identity.principal import NOBODY, SYSTEM_OWNER, Principal
from slackwater.identity.scopes import KeyScope, granted
from slackwater.identity.signing import tokens
from slackwater.identity.signing.audience import Audience
from slackwater.kit.ids import uuid7

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.datastructures import Headers

    from slackwater.identity.signing.service import Signing

MOST_SECONDS = 300.0
"""No such token is valid for longer: it cannot be revoked but by `slackwater signing rotate --now`."""

SCOPES = (KeyScope.READ, KeyScope.RUN)
"""What one may allow."""

NAME = 500
"""So many characters an owner may have."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A token that was made."""

    token: str = field(repr=False)
    token_id: UUID


async def issue(
    signing: Signing, owner: str, *, seconds: float = 60.0, scope: KeyScope = KeyScope.RUN
) -> Issued:
    """A token with which its holder calls as this owner. Raises ValueError, which says what is wrong."""
    if not 0 < seconds <= MOST_SECONDS:
        raise ValueError(f"a token is valid for more than 0 and at most {MOST_SECONDS:g} seconds")
    if scope not in SCOPES:
        raise ValueError(f"a token allows {' or '.join(SCOPES)}, not {scope}")
    if owner in (NOBODY, SYSTEM_OWNER) or len(owner) > NAME or "\0" in owner:
        raise ValueError(f"{owner[:80]!r} is nobody who could call")
    token_id = uuid7()
    claims = {"sub": owner, "scope": scope.value, "jti": str(token_id)}
    return Issued(await signing.sign(Audience.INTERNAL, claims, seconds=seconds), token_id)


async def caller(signing: Signing, headers: Headers) -> Principal | None:
    """Whom the token of a request names; None if it has none that is for this, and may have one for something else.

    Raises TokenInvalid, TokenExpired.
    """
    scheme, _, token = headers.get("authorization", "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or tokens.audience_of(token) is not Audience.INTERNAL:
        return None
    return _principal(await signing.verify(Audience.INTERNAL, token))


def _principal(claims: Mapping[str, Any]) -> Principal:
    owner, scope = claims.get("sub"), claims.get("scope")
    if not isinstance(owner, str) or owner in (NOBODY, SYSTEM_OWNER) or scope not in SCOPES:
        raise TokenInvalid
    try:
        token_id = UUID(claims["jti"])
    except (KeyError, ValueError, AttributeError, TypeError):
        raise TokenInvalid from None
    return Principal(owner, scopes=granted([KeyScope(scope)]), token_id=token_id)
