"""Which ID tokens are taken for the provider's, for us, and of this login."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import JWSRegistry

from slackwater.identity.oidc.errors import IdTokenRefused
from slackwater.identity.oidc.id_token import SKEW_SECONDS, UnknownKey, keys_of, verify

ISSUER, CLIENT, NONCE, ACCESS = "https://id.example.com", "slackwater", "the-nonce", "the-access-token"
NOW = 1_800_000_000
ALL = JWSRegistry(
    algorithms=["RS256", "PS256", "ES256", "ES384", "ES512", "HS256"], strict_check_header=False
)
KEY = RSAKey.generate_key(2048, {"kid": "one"})
LISTED = {"keys": [KEY.as_dict(private=False)]}


def half_hash(text: str, kind: str = "sha256") -> str:
    digest = hashlib.new(kind, text.encode()).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()


def claims(**changes: Any) -> dict[str, Any]:
    whole = {
        "iss": ISSUER,
        "sub": "alice",
        "aud": CLIENT,
        "exp": NOW + 300,
        "iat": NOW,
        "nonce": NONCE,
        **changes,
    }
    return {name: value for name, value in whole.items() if value is not None}


def token(key: Any = KEY, header: dict[str, Any] | None = None, **changes: Any) -> str:
    head = {"alg": "RS256", "kid": "one", **(header or {})}
    return jwt.encode(
        {name: value for name, value in head.items() if value}, claims(**changes), key, registry=ALL
    )


def verified(text: str, listed: Any = LISTED, access_token: str | None = ACCESS) -> Any:
    return verify(
        text,
        keys_of(listed),
        issuer=ISSUER,
        client_id=CLIENT,
        nonce=NONCE,
        access_token=access_token,
        now=NOW,
    )


def test_a_token_of_the_provider_for_us_and_this_login_is_taken() -> None:
    assert verified(token(email="alice@example.com"))["email"] == "alice@example.com"
    assert verified(token(at_hash=half_hash(ACCESS)))["sub"] == "alice"
    assert verified(token(aud=[CLIENT]))["sub"] == "alice"
    assert verified(token(aud=[CLIENT, "another"], azp=CLIENT))["sub"] == "alice"
    assert verified(token(header={"x-of-the-provider": "1", "x5t": "abc"}))["sub"] == "alice"
    assert verified(token(header={"kid": None}))["sub"] == "alice"  # where there is one key only


@pytest.mark.parametrize(
    ("algorithm", "key", "digest"),
    [
        ("PS256", KEY, "sha256"),
        ("ES256", ECKey.generate_key("P-256", {"kid": "one"}), "sha256"),
        ("ES384", ECKey.generate_key("P-384", {"kid": "one"}), "sha384"),
        ("ES512", ECKey.generate_key("P-521", {"kid": "one"}), "sha512"),
    ],
)
def test_asymmetric_algorithms_are_known(algorithm: str, key: Any, digest: str) -> None:
    text = token(key, {"alg": algorithm}, at_hash=half_hash(ACCESS, digest))
    assert verified(text, {"keys": [key.as_dict(private=False)]})["sub"] == "alice"


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://evil.example"},
        {"iss": f"{ISSUER}/"},
        {"iss": None},
        {"iss": [ISSUER]},
        {"aud": "another"},
        {"aud": ["another"]},
        {"aud": None},
        {"aud": []},
        {"aud": {"slackwater": 1}},
        {"aud": [CLIENT, "another"]},
        {"azp": "another"},
        {"azp": ["slackwater"]},
        {"exp": NOW - SKEW_SECONDS},
        {"exp": None},
        {"exp": "soon"},
        {"exp": True},
        {"iat": None},
        {"iat": NOW + SKEW_SECONDS + 1},
        {"nbf": NOW + SKEW_SECONDS + 1},
        {"nonce": "another"},
        {"nonce": None},
        {"nonce": [NONCE]},
        {"nonce": ""},
        {"at_hash": half_hash("another token")},
        {"at_hash": 7},
        {"at_hash": [half_hash(ACCESS)]},
        {"at_hash": {"a": 1}},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "a" * 256},
        {"sub": "ali\x00ce"},
    ],
)
def test_a_wrong_claim_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(IdTokenRefused):
        verified(token(**changes))


def test_a_clock_may_be_a_little_wrong() -> None:
    assert verified(token(exp=NOW - SKEW_SECONDS + 1, iat=NOW + SKEW_SECONDS))["sub"] == "alice"


def without_signature(text: str) -> str:
    return text.rpartition(".")[0] + "."


def with_header(text: str, **changes: Any) -> str:
    head, _, rest = text.partition(".")
    header = {**json.loads(base64.urlsafe_b64decode(head + "==")), **changes}
    return f"{base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b'=').decode()}.{rest}"


def signed_by_public_key(secret: bytes) -> str:
    """By hand: a library that is careful does not do that."""
    head = with_header(token(), alg="HS256").rpartition(".")[0]
    digest = hmac.new(secret, head.encode(), hashlib.sha256).digest()
    return f"{head}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


@pytest.mark.parametrize(
    "text",
    [
        without_signature(with_header(token(), alg="none")),
        without_signature(with_header(token(), alg="None")),
        without_signature(token()),
        with_header(token(), alg="HS256"),
        with_header(token(), alg=["RS256"]),
        with_header(token(), alg=None),
        with_header(token(), b64=False, crit=["b64"]),
        with_header(token(), crit=["x"], x=1),
        signed_by_public_key(KEY.as_pem(private=False)),
        signed_by_public_key(KEY.as_der(private=False)),
        token(RSAKey.generate_key(2048)),
        token(ECKey.generate_key("P-256"), {"alg": "ES256"}),
        token()[:-4] + "AAAA",
        "",
        "a.b",
        "a.b.c",
        "é.é.é",
        "." * 10_000,
        "a" * 500_000,
        f"{token()}.x",
        "e30.e30.e30",
        "bnVsbA.bnVsbA.bnVsbA",
    ],
)
def test_what_nobody_has_signed_is_refused(text: str) -> None:
    with pytest.raises((IdTokenRefused, UnknownKey)):
        verified(text)


@pytest.mark.parametrize("payload", [b"[]", b"null", b"\xff", b"[" * 20_000, b'{"sub":'])
def test_what_is_signed_but_has_no_claims_is_refused(payload: bytes) -> None:
    from joserfc import jws

    with pytest.raises(IdTokenRefused):
        verified(jws.serialize_compact({"alg": "RS256", "kid": "one"}, payload, KEY, registry=ALL))


def test_a_key_that_is_not_listed_may_be_a_new_one() -> None:
    with pytest.raises(UnknownKey):
        verified(token(header={"kid": "two"}))
    with pytest.raises(UnknownKey):
        verified(token(), {"keys": []})


def test_keys_that_cannot_verify_are_passed_over() -> None:
    of_others = [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "one"},
        {"kty": "RSA", "kid": "one"},
        {"kty": "EC", "crv": "P-999", "x": "AA", "y": "AA", "kid": "one"},
        {**RSAKey.generate_key(2048).as_dict(private=False), "kid": "one", "use": "enc"},
        {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA", "kid": "one"},
        {"kty": "RSA", "n": "_" * 171, "e": "AQAB", "kid": "one"},
        {"kty": "RSA", "n": 5, "e": [], "kid": "one"},
        {"kty": "EC", "crv": ["P-256"], "x": 1, "y": None, "kid": "one"},
        {"kty": ["RSA"]},
        "text",
        None,
        {},
    ]
    assert verified(token(), {"keys": [*of_others, *LISTED["keys"]]})["sub"] == "alice"
    assert not keys_of({"keys": of_others})


@pytest.mark.parametrize("document", [None, [], {}, {"keys": {}}, "keys"])
def test_what_is_no_list_of_keys_is_none(document: Any) -> None:
    with pytest.raises(ValueError, match="list"):
        keys_of(document)
