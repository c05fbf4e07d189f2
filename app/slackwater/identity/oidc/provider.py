"""What the settings say of a provider. Imported by every process: nothing heavy here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

NAME = "oidc"
"""What a provider is called that has no name."""

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_PRINTABLE = re.compile(r"[\x21-\x7e]+")
_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}")
_FIELDS = frozenset({"name", "issuer", "client_id", "client_secret", "allowed_domains", "provision"})


@dataclass(frozen=True, slots=True)
class Provider:
    """One that users may log in with."""

    name: str
    """In the paths of the routes."""
    issuer: str
    """Its identifier, exactly as it writes it."""
    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    """None: a public client, which only PKCE protects."""
    allowed_domains: frozenset[str] = frozenset()
    """Of e-mail addresses; empty: all."""
    provision: bool = False
    """Whether somebody without an account gets one."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Provider:
        """Raises ValueError, which says what is expected."""
        if unknown := sorted(values.keys() - _FIELDS):
            raise ValueError(f"a provider has no {unknown[0]!r}: it has {', '.join(sorted(_FIELDS))}")
        name, issuer = values.get("name") or NAME, values.get("issuer")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be a provider's name: use at most 32 of a-z, 0-9, _ and -")
        if not isinstance(issuer, str) or not is_safe_url(issuer) or set("?#") & set(issuer):
            raise ValueError(f"the issuer of {name!r} must be an https:// URL, or http:// on loopback")
        client_id, secret = values.get("client_id"), values.get("client_secret")
        if not _is_printable(client_id):
            raise ValueError(f"{name!r} needs the client_id that the provider has given to this server")
        if secret is not None and not _is_printable(secret):
            raise ValueError(f"the client_secret of {name!r} must be printable ASCII without spaces")
        provision = values.get("provision", False)
        if not isinstance(provision, bool):
            raise ValueError(f"provision of {name!r} must be true or false")
        domains = values.get("allowed_domains") or ()
        if isinstance(domains, str) or not isinstance(domains, Sequence):
            raise ValueError(f"allowed_domains of {name!r} must be a list")
        return cls(name, issuer, str(client_id), secret, frozenset(map(domain_of, domains)), provision)


def is_safe_url(url: str) -> bool:
    """Whether a request may go there: over TLS, or to this machine."""
    if not _PRINTABLE.fullmatch(url):
        return False
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if parts.username is not None or not host:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and host in LOOPBACK)


def domain_of(text: object) -> str:
    """The domain of e-mail addresses. Raises ValueError."""
    domain = text.strip().removeprefix("@").lower() if isinstance(text, str) and text.isascii() else ""
    if not _DOMAIN.fullmatch(domain):
        raise ValueError(
            f"{text!r} is not a domain such as example.com (of another script: in its xn-- form)"
        )
    return domain


def providers_of(text: str) -> tuple[Provider, ...]:
    """Read a JSON list of providers. Raises ValueError, which says what is expected."""
    try:
        items = json.loads(text)
    except json.JSONDecodeError:
        items = None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ValueError(
            'must be a JSON list, such as [{"name": "…", "issuer": "https://…", "client_id": "…"}]'
        )
    return tuple(Provider.of(item) for item in items)


def _is_printable(value: object) -> bool:
    return isinstance(value, str) and _PRINTABLE.fullmatch(value) is not None
