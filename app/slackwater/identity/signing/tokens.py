"""Tokens: JWS in its compact form, signed by HS256 and nothing else. Nothing here waits or asks."""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from math import isfinite
from typing import Any

from slackwater.errors import TokenExpired, TokenInvalid
from slackwater.identity.signing.audience import Audience

ALGORITHM = "HS256"

MOST = 4096
"""So many characters a token may have: browsers keep no larger cookies."""

LEEWAY_SECONDS = 5.0
"""How much the clocks of two processes may differ."""

_PART = r"[A-Za-z0-9_-]"
_TOKEN = re.compile(rf"({_PART}{{1,400}})\.{_PART}+\.{_PART}{{43}}")
_KID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_BY_TYP = {audience.typ: audience for audience in Audience}


def audience_of(token: str) -> Audience | None:
    """What a token says it is for, whoever has signed it; None if it is none of ours."""
    header = _header(token)
    return None if header is None else _BY_TYP.get(header["typ"])


def kid_of(audience: Audience, token: str) -> str:
    """The key that the token says it was signed with. Raises TokenInvalid if it cannot be a token for this."""
    header = _header(token)
    if header is None or header["typ"] != audience.typ:
        raise TokenInvalid
    kid: str = header["kid"]
    return kid


def encode(audience: Audience, claims: Mapping[str, Any], kid: str, key: Any) -> str:
    """The signed token. `key` is joserfc's."""
    from joserfc import jwt

    header = {"alg": ALGORITHM, "kid": kid, "typ": audience.typ}
    token = jwt.encode(header, {**claims, "aud": audience.value}, key, [ALGORITHM])
    if len(token) > MOST:
        raise ValueError(f"the token would have {len(token)} characters")
    return token


def decode(audience: Audience, token: str, key: Any, now: float) -> Mapping[str, Any]:
    """The claims of a token that the key has signed for this. Raises TokenInvalid, TokenExpired."""
    from joserfc import jwt
    from joserfc.errors import JoseError

    try:
        claims = jwt.decode(token, key, [ALGORITHM]).claims
    except (JoseError, ValueError):
        raise TokenInvalid from None
    expires: Any = claims.get("exp")
    if claims.get("aud") != audience.value or type(expires) not in (int, float) or not isfinite(expires):
        raise TokenInvalid
    return current(claims, now)


def current(claims: Mapping[str, Any], now: float) -> Mapping[str, Any]:
    """The claims of a token that is known to be ours. Raises TokenExpired."""
    if now >= claims["exp"] + LEEWAY_SECONDS:
        raise TokenExpired
    return claims


def _header(token: str) -> dict[str, Any] | None:
    """The header, exactly as `encode` writes it; None if it is another one."""
    if len(token) > MOST or (parts := _TOKEN.fullmatch(token)) is None:
        return None
    text = parts[1]
    try:
        header = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError:
        return None
    if not isinstance(header, dict) or header.keys() != {"alg", "kid", "typ"}:
        return None
    if header["alg"] != ALGORITHM or not isinstance(header["typ"], str):
        return None
    kid = header["kid"]
    return header if isinstance(kid, str) and _KID.fullmatch(kid) else None
