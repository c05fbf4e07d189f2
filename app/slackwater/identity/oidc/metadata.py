"""What a provider says of itself (OpenID Connect Discovery 1.0), as far as it is needed here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slackwater.identity.oidc.provider import is_safe_url

WELL_KNOWN = "/.well-known/openid-configuration"


class WrongMetadata(Exception):
    """A provider's document cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """Where its endpoints are."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    secret_in_body: bool = False
    """How it takes the client's secret: in the body of a request, or (the default) in its head."""
    answers_with_issuer: bool = False
    """Whether its answers name it (RFC 9207)."""

    @classmethod
    def of(cls, document: object, issuer: str) -> Metadata:
        """Raises WrongMetadata."""
        if not isinstance(document, Mapping):
            raise WrongMetadata("it is not a JSON object")
        if document.get("issuer") != issuer:
            # Exactly, as the ID token's is compared, too: a slash at the end is another issuer.
            raise WrongMetadata(
                f"it is of the issuer {str(document.get('issuer'))[:200]!r}, not of {issuer!r}"
            )
        challenges = document.get("code_challenge_methods_supported")
        if isinstance(challenges, list) and "S256" not in challenges:
            raise WrongMetadata("the provider does not take PKCE with S256")
        return cls(
            issuer,
            _endpoint(document, "authorization_endpoint"),
            _endpoint(document, "token_endpoint"),
            _endpoint(document, "jwks_uri"),
            _endpoint(document, "userinfo_endpoint") if document.get("userinfo_endpoint") else None,
            _takes_secret_in_body_only(document.get("token_endpoint_auth_methods_supported")),
            document.get("authorization_response_iss_parameter_supported") is True,
        )


def url_of(issuer: str) -> str:
    """Where the document is."""
    return issuer.rstrip("/") + WELL_KNOWN


def _endpoint(document: Mapping[str, Any], name: str) -> str:
    url = document.get(name)
    if not isinstance(url, str) or not is_safe_url(url):
        raise WrongMetadata(f"its {name} is no https:// URL, nor one of this machine")
    return url


def _takes_secret_in_body_only(methods: object) -> bool:
    return (
        isinstance(methods, list) and "client_secret_basic" not in methods and "client_secret_post" in methods
    )
