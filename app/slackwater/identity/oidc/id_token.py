"""Whether an ID token is the provider's, for us, and of this login (OpenID Connect Core 1.0, 3.1.3.7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from authlib.oidc.core import CodeIDToken  # type: ignore[import-untyped]
from joserfc import jws, jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import JWKRegistry, Key, KeySet
from joserfc.jws import JWSRegistry

from slackwater.identity.oidc.errors import IdTokenRefused

ALGORITHMS = (
    *("RS256", "RS384", "RS512"),
    *("PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512"),
)
"""None that takes a shared secret: whoever knows the public key could sign with it, were it taken for one."""

KEY_TYPES = ("RSA", "EC")
RSA_CHARACTERS = 342
"""Of the modulus of 2048 bits; shorter ones can be factored."""
MOST_KEYS = 100
SKEW_SECONDS = 60
"""By how much the provider's clock may differ from ours."""
SUBJECT_CHARACTERS = 255


class _Registry(JWSRegistry):
    """Some providers send their certificates along."""

    max_header_length = 8192


# Headers that nobody here knows are ignored, as the standard says, unless they are critical.
_REGISTRY = _Registry(algorithms=ALGORITHMS, strict_check_header=False)


class UnknownKey(Exception):
    """The token was signed with a key that is not among these: the provider may have a new one."""


def keys_of(document: object) -> KeySet:
    """The provider's keys that can verify; others are passed over, as they may be for something else. Raises ValueError."""
    listed = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(listed, list):
        raise ValueError("there is no list of keys")
    keys = [key for data in listed[:MOST_KEYS] if (key := _key_of(data)) is not None]
    return KeySet(keys)


def verify(
    token: str,
    keys: KeySet,
    *,
    issuer: str,
    client_id: str,
    nonce: str,
    access_token: str | None,
    now: int | None = None,
) -> Mapping[str, Any]:
    """The claims. Raises UnknownKey and IdTokenRefused."""
    try:
        # Before a key is looked for: no key makes an algorithm acceptable.
        header = jws.extract_compact(token.encode(), registry=_REGISTRY).headers()
        if header.get("alg") not in ALGORITHMS:
            raise IdTokenRefused(f"its algorithm is {str(header.get('alg'))[:20]!r}")
        decoded = jwt.decode(token, keys, registry=_REGISTRY)
        claims = CodeIDToken(
            decoded.claims,
            decoded.header,
            options={
                "iss": {"essential": True, "values": [issuer]},
                "aud": {"essential": True, "values": [client_id]},
                "sub": {"essential": True},
            },
            params={"nonce": nonce, "client_id": client_id, "access_token": access_token},
        )
        claims.validate(now, leeway=SKEW_SECONDS)
    except InvalidKeyIdError as error:
        raise UnknownKey from error
    except JoseError as error:
        raise IdTokenRefused(f"{error.error} {error.description}".strip()) from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        # What a wrong type does to those who look at a claim.
        raise IdTokenRefused(type(error).__name__) from error
    subject = claims["sub"]
    if (
        not isinstance(subject, str)
        or not 0 < len(subject) <= SUBJECT_CHARACTERS
        or not subject.isprintable()
    ):
        raise IdTokenRefused("invalid_claim sub")
    return dict(claims)


def _key_of(data: object) -> Key | None:
    if not isinstance(data, dict) or data.get("kty") not in KEY_TYPES or data.get("use", "sig") != "sig":
        return None
    if data["kty"] == "RSA" and len(str(data.get("n"))) < RSA_CHARACTERS:
        return None
    try:
        return JWKRegistry.import_key(data)
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        return None
