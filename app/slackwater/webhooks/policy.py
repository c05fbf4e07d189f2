"""What `langgraph.json` says about webhooks (`webhooks`), checked when the process starts."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

from slackwater.errors import Invalid, SettingsError
from slackwater.project.http import SECRET_HEADERS
from slackwater.webhooks import address

_TEMPLATE = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
_VARIABLE = re.compile(r"env\.([A-Za-z_][A-Za-z0-9_]*)")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"([\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?)?")
_URL = re.compile(r"[\x21-\x7e]+")
_OWN_HEADERS = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection", "webhook-id",
     "webhook-timestamp", "webhook-signature"}
)  # fmt: skip

_KEYS = frozenset({"env_prefix", "url", "headers", "allowed_fields"})
_URL_KEYS = frozenset(
    {"require_https", "allowed_domains", "allowed_ports", "max_url_length", "disable_loopback", "disable_private_ips"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Policy:
    """Which URLs may be told of a run, and what they are told."""

    require_https: bool = False
    allowed_domains: tuple[str, ...] = ()
    """Names, or `*.name` for all below it. Empty: any."""
    allowed_ports: tuple[int, ...] = ()
    """Empty: any."""
    max_url_length: int = 4096
    loopback: bool = False
    private: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    secret_headers: tuple[str, ...] = ()
    """Names of those that hold a secret. With any, only https domains that `allowed_domains` names are called."""
    allowed_fields: frozenset[str] = frozenset()
    """The top-level fields of a body. Empty: all."""

    @classmethod
    def of(cls, block: object, environment: Mapping[str, str] | None = None) -> Policy:
        """From the value of `webhooks` in `langgraph.json`. Raises SettingsError, which names the key."""
        if not block:
            return cls()
        content = _object(block, "webhooks", _KEYS)
        url = _object(content.get("url") or {}, "webhooks.url", _URL_KEYS)
        given = "url" in content and content["url"] is not None
        prefix = content.get("env_prefix", "LG_WEBHOOK_")
        if not isinstance(prefix, str):
            raise SettingsError("langgraph.json: webhooks.env_prefix must be a string.")
        variables = os.environ if environment is None else environment
        headers = content.get("headers") or {}
        return cls(
            require_https=_flag(url, "require_https", given),
            allowed_domains=tuple(
                name.lower().rstrip(".") for name in _texts(url, "webhooks.url.allowed_domains")
            ),
            allowed_ports=_ports(url),
            max_url_length=_length(url, 2048 if given else 4096),
            loopback=not _flag(url, "disable_loopback", True),
            private=not _flag(url, "disable_private_ips", True),
            headers=_headers(headers, prefix, variables),
            secret_headers=tuple(name for name, template in headers.items() if _is_secret(name, template)),
            allowed_fields=frozenset(_texts(content, "webhooks.allowed_fields")),
        )

    def check(self, url: str) -> None:
        """Refuse what can be told from the URL alone; its address is looked at when it is called. Raises Invalid."""
        if len(url) > self.max_url_length:
            raise Invalid(
                f"Webhook URL too long: {len(url)} characters, at most {self.max_url_length} are allowed"
            )
        if url.startswith("/") and not url.startswith("//"):
            raise Invalid(
                "webhook: a path on this server is not called, because the call would have no caller whose key could be "
                "checked: give a full URL"
            )
        parts, port = _split(url)
        if parts.scheme == "http" and self.require_https:
            raise Invalid("Webhook must use https")
        if parts.scheme not in ("http", "https"):
            raise Invalid(f"Webhook must use {'https' if self.require_https else 'https or http'}")
        host = (parts.hostname or "").lower().rstrip(".")
        if not host or "\\" in url:
            raise Invalid(f"Invalid webhook hostname '{host}'")
        if parts.username is not None or parts.password is not None:
            raise Invalid(
                "Webhook URL must not contain a user or password: use webhooks.headers of langgraph.json"
            )
        port = port if port is not None else 443 if parts.scheme == "https" else 80
        if port == 0 or (self.allowed_ports and port not in self.allowed_ports):
            raise Invalid(f"Webhook port {port} not allowed")
        if self.allowed_domains and not any(_is_of(host, pattern) for pattern in self.allowed_domains):
            raise Invalid(f"Webhook domain not allowed: '{host}'")
        if why := self._blocked(host):
            raise Invalid(f"Webhook host blocked: '{host}' is {why}")
        if self.secret_headers and not (parts.scheme == "https" and self.allowed_domains):
            # Whoever may start a run chooses where it is sent, and would otherwise be sent the secret.
            raise Invalid(
                f"Webhook refused: webhooks.headers of langgraph.json holds a secret ({self.secret_headers[0]}), which is "
                "sent only by https, and only to domains that webhooks.url.allowed_domains names"
            )

    def _blocked(self, host: str) -> str | None:
        known = address.literal(host)
        if known is not None:
            return address.reason(known, loopback=self.loopback, private=self.private)
        if address.internal_name(host):
            return "a name inside a cloud or cluster"
        if not self.loopback and (host == "localhost" or host.endswith(".localhost")):
            return "loopback"
        return None


def _split(url: str) -> tuple[SplitResult, int | None]:
    # Python drops tabs and line ends from a URL, and other programs do not.
    if not _URL.fullmatch(url):
        raise Invalid("webhook: must be an absolute URL in ASCII, without spaces")
    try:
        parts = urlsplit(url)
        return parts, parts.port
    except ValueError as error:
        raise Invalid(f"webhook: {error}") from None


def _is_of(host: str, pattern: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


def _object(value: object, name: str, keys: frozenset[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SettingsError(f"langgraph.json: {name} must be an object.")
    if unknown := sorted(value.keys() - keys):
        # A rule with a typo would be no rule.
        raise SettingsError(
            f"langgraph.json: {name} has unknown keys {', '.join(unknown)}; allowed are {', '.join(sorted(keys))}."
        )
    return value


def _flag(url: Mapping[str, Any], name: str, default: bool) -> bool:
    value = url.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise SettingsError(f"langgraph.json: webhooks.url.{name} must be true or false.")
    return value


def _texts(block: Mapping[str, Any], name: str) -> list[str]:
    value = block.get(name.rpartition(".")[2]) or []
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise SettingsError(f"langgraph.json: {name} must be a list of strings.")
    return value


def _ports(url: Mapping[str, Any]) -> tuple[int, ...]:
    value = url.get("allowed_ports") or []
    if not isinstance(value, list) or not all(type(item) is int and 0 < item < 65536 for item in value):
        raise SettingsError("langgraph.json: webhooks.url.allowed_ports must be a list of port numbers.")
    return tuple(value)


def _length(url: Mapping[str, Any], default: int) -> int:
    value = url.get("max_url_length")
    if value is None:
        return default
    if type(value) is not int or value < 1:
        raise SettingsError("langgraph.json: webhooks.url.max_url_length must be a positive number.")
    return value


def _headers(value: object, prefix: str, variables: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise SettingsError("langgraph.json: webhooks.headers must be an object of strings.")
    headers = {}
    for name, template in value.items():
        if not _HEADER_NAME.fullmatch(name) or name.lower() in _OWN_HEADERS:
            raise SettingsError(
                f"langgraph.json: webhooks.headers: {name!r} is not a header name that you may set."
            )
        headers[name] = _filled(name, template, prefix, variables)
    return headers


def _is_secret(name: str, template: str) -> bool:
    """Whether a header holds what only its receiver may know: taken from the environment, or by its name."""
    return _TEMPLATE.search(template) is not None or name.lower() in SECRET_HEADERS


def _filled(name: str, template: str, prefix: str, variables: Mapping[str, str]) -> str:
    def value_of(match: re.Match[str]) -> str:
        variable = _VARIABLE.fullmatch(match[1])
        if variable is None or not variable[1].startswith(prefix):
            raise SettingsError(
                f"langgraph.json: webhooks.headers.{name}: {match[0]} must be ${{{{ env.NAME }}}}, where NAME begins "
                f"with {prefix}."
            )
        if variable[1] not in variables:
            raise SettingsError(
                f"langgraph.json: webhooks.headers.{name}: set the environment variable {variable[1]}."
            )
        return variables[variable[1]]

    text = _TEMPLATE.sub(value_of, template)
    if not _HEADER_VALUE.fullmatch(text):
        raise SettingsError(
            f"langgraph.json: webhooks.headers.{name} must be printable ASCII on one line, without spaces around it."
        )
    return text
