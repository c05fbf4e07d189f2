"""What `langgraph.json` says of the HTTP surface: `http`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from slackwater.errors import SettingsError


class RouteGroup(StrEnum):
    """Routes that can be switched off together, by `disable_…`."""

    ASSISTANTS = "assistants"
    THREADS = "threads"
    RUNS = "runs"
    """Also whatever else starts runs: crons, the protocol's commands, MCP and A2A. `slackwater.api.runs.service` refuses them all."""
    STORE = "store"
    META = "meta"
    """`/`, `/info`, `/docs`, `/openapi.json` and `/metrics`. `/ok`, `/ready` and `/health` stay: a platform needs them."""
    WEBHOOKS = "webhooks"
    """No routes: webhooks that runs ask for are not called."""
    UI = "ui"
    MCP = "mcp"
    A2A = "a2a"
    EVENT_STREAMING = "event_streaming"
    CRONS = "crons"


STARTING = frozenset({RouteGroup.CRONS, RouteGroup.EVENT_STREAMING, RouteGroup.MCP, RouteGroup.A2A})
"""Groups other than the runs' own that start some."""

_FLAGS = {f"disable_{group}": group for group in RouteGroup}
_KEYS = frozenset(_FLAGS) | {
    "app",
    "cors",
    "mount_prefix",
    "configurable_headers",
    "logging_headers",
    "enable_custom_route_auth",
    "middleware_order",
}
_ORDERS = ("middleware_first", "auth_first")

SECRET_HEADERS = frozenset(
    {
        # What proves who calls, to us or to whoever stands in front, and what answers set for that.
        *("authorization", "proxy-authorization", "x-authorization", "x-forwarded-authorization"),
        *("authentication-info", "proxy-authentication-info", "www-authenticate", "proxy-authenticate"),
        *("cookie", "cookie2", "set-cookie", "set-cookie2"),
        "sec-websocket-protocol",  # where browsers put a token, since they can send no other header
        *("x-api-key", "api-key", "apikey", "x-apikey", "x-service-key", "x-tenant-id", "x-functions-key"),
        *(
            "x-auth-token",
            "x-access-token",
            "x-refresh-token",
            "x-id-token",
            "x-session-token",
            "x-user-token",
            "x-deerflow-internal-token",
        ),
        *("x-csrf-token", "x-csrftoken", "csrf-token", "x-xsrf-token", "xsrf-token"),
        # AWS, Google, Azure, Cloudflare, proxies.
        *("x-amz-security-token", "x-amzn-oidc-data", "x-amzn-oidc-accesstoken"),
        *("x-goog-api-key", "x-goog-iam-authorization-token", "x-goog-iap-jwt-assertion"),
        *("x-serverless-authorization", "ocp-apim-subscription-key", "x-ms-client-principal"),
        *("x-ms-token-aad-access-token", "x-ms-token-aad-id-token", "x-ms-token-aad-refresh-token"),
        *("cf-access-jwt-assertion", "cf-access-token", "cf-access-client-secret"),
        *("x-forwarded-access-token", "x-auth-request-access-token", "x-forwarded-client-cert"),
        # What callers of agents bring along.
        *("openai-api-key", "anthropic-api-key", "x-langsmith-api-key", "x-vault-token", "x-consul-token"),
        *("private-token", "job-token", "x-gitlab-token", "x-github-token", "x-slack-signature"),
        *("x-hub-signature", "x-hub-signature-256", "x-telegram-bot-api-secret-token"),
    }
)
"""Never handed on and never logged, whatever a pattern says."""

_SECRET_WORDS = re.compile(
    r"authorization|authentication|(^|[-_])(auth|jwt|bearer|assertion)$|token$|secret|passw(or)?d|passphrase|"
    r"credential|cookie|csrf|xsrf|(api|access|service|subscription|private)[-_]?key"
)
"""Names that nobody can list. A pattern with `*` does not mean these; who wants one handed on names it in full."""

_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([^\s/?#@*]+?)(:\d{1,5})?/?", re.I)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}

_CORS_TYPES: dict[str, type] = {
    "allow_origins": list,
    "allow_methods": list,
    "allow_headers": list,
    "expose_headers": list,
    "allow_credentials": bool,
    "allow_private_network": bool,
    "allow_origin_regex": str,
    "max_age": int,
}
_CORS_WORDS = {list: "a list of strings", bool: "true or false", str: "a string", int: "a number of seconds"}


@dataclass(frozen=True, slots=True)
class HeaderFilter:
    """`configurable_headers` or `logging_headers`: which headers of a request are handed on. None by default."""

    includes: tuple[str, ...] = ()
    """Names in lower case; `*` stands for any characters."""
    excludes: tuple[str, ...] = ()
    names_suffice: bool = field(default=True, compare=False)
    """One that looks like a secret passes if `includes` has its whole name: not into a log."""
    _include: re.Pattern[str] | None = field(default=None, init=False, compare=False, repr=False)
    _exclude: re.Pattern[str] | None = field(default=None, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_include", _any_of(self.includes))
        object.__setattr__(self, "_exclude", _any_of(self.excludes))

    def __bool__(self) -> bool:
        return bool(self.includes)

    def pick(self, headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
        """Those that pass, under their lower-case names; of several with one name the last."""
        picked = {}
        for raw, value in headers:
            name = raw.decode("latin-1").lower()
            if self._passes(name):
                picked[name] = value.decode("latin-1").replace("\x00", "\ufffd")
        return picked

    def _passes(self, name: str) -> bool:
        if self._include is None or name in SECRET_HEADERS or not self._include.fullmatch(name):
            return False
        if _SECRET_WORDS.search(name) and not (self.names_suffice and name in self.includes):
            return False
        return self._exclude is None or not self._exclude.fullmatch(name)


@dataclass(frozen=True, slots=True)
class AppSpec:
    """`app`: the value called `variable` in the file or module at `location`."""

    source: str
    """As it is written, for messages: `./webapp.py:app`."""
    location: Path | str
    """The absolute path of a file, or the dotted name of a module."""
    variable: str


@dataclass(frozen=True, slots=True)
class HttpSpec:
    """`http`."""

    app: AppSpec | None = None
    cors: Mapping[str, Any] | None = None
    """Arguments of Starlette's CORSMiddleware, in place of all defaults; None: the defaults."""
    mount_prefix: str = ""
    """`/prefix`, or nothing."""
    disabled: frozenset[RouteGroup] = frozenset()
    """With all that goes with them."""
    configurable_headers: HeaderFilter = field(default_factory=HeaderFilter)
    logging_headers: HeaderFilter = field(default_factory=HeaderFilter)
    custom_route_auth: bool = False
    """The routes of `app` need a caller, too."""
    auth_first: bool = False
    """Who calls is asked before the middleware of `app` runs, not after."""

    @classmethod
    def read(cls, value: object, file: Path) -> tuple[HttpSpec, tuple[str, ...]]:
        """From the value of `http`; and what of it has no effect, one sentence each. Raises SettingsError."""
        if not value:
            return cls(), ()
        if not isinstance(value, dict):
            raise SettingsError(f"{file}: http must be an object.")
        unknown = sorted(str(key) for key in value if key not in _KEYS)
        warnings = (f"{file}: http: these keys have no effect: {', '.join(unknown)}",) if unknown else ()
        order = value.get("middleware_order") or _ORDERS[0]
        if order not in _ORDERS:
            raise SettingsError(
                f"{file}: http.middleware_order must be one of {', '.join(_ORDERS)}, not {order!r}."
            )
        app = value.get("app")
        cors = value.get("cors")
        prefix = value.get("mount_prefix")
        spec = cls(
            app=_app(app, file) if app else None,
            cors=cors_of(cors, f"{file}: http.cors") if cors is not None else None,
            mount_prefix=prefix_of(prefix, f"{file}: http.mount_prefix") if prefix else "",
            disabled=_implied(group for key, group in _FLAGS.items() if _flag(value, key, file)),
            configurable_headers=_headers(value, "configurable_headers", file),
            logging_headers=_headers(value, "logging_headers", file),
            custom_route_auth=_flag(value, "enable_custom_route_auth", file),
            auth_first=order == "auth_first",
        )
        return spec, warnings


def cors_of(value: object, place: str) -> dict[str, Any]:
    """Arguments of Starlette's CORSMiddleware. Raises SettingsError, which names the key."""
    if not isinstance(value, dict):
        raise SettingsError(
            f'{place} must be an object, such as {{"allow_origins": ["https://example.org"]}}.'
        )
    for key, item in value.items():
        kind = _CORS_TYPES.get(key)
        if kind is None:
            raise SettingsError(f"{place}.{key} is not one of {', '.join(_CORS_TYPES)}.")
        right = isinstance(item, kind) and not (kind is int and isinstance(item, bool))
        if not right or (kind is list and not all(isinstance(text, str) for text in item)):
            raise SettingsError(f"{place}.{key} must be {_CORS_WORDS[kind]}, not {item!r}.")
    pattern = value.get("allow_origin_regex")
    if pattern is not None:
        try:
            re.compile(pattern)
        except re.error as error:
            raise SettingsError(
                f"{place}.allow_origin_regex is not a valid regular expression: {error}."
            ) from None
    origins = value.get("allow_origins")
    if origins is None:
        return dict(value)
    return {**value, "allow_origins": [origin_of(origin, f"{place}.allow_origins") for origin in origins]}


def origin_of(value: str, place: str) -> str:
    """An origin as browsers send it: in lower case, without the port that its scheme has anyway; or `*`. Raises SettingsError."""
    if value in ("*", "null"):
        return value
    match = _ORIGIN.fullmatch(value)
    if match is None:
        raise SettingsError(
            f"{place}: {value!r} is no origin: write its scheme and host, such as https://chat.example.org, or use "
            "allow_origin_regex for several."
        )
    scheme, host, port = match[1].lower(), match[2].lower(), match[3] or ""
    return f"{scheme}://{host}{'' if port == _DEFAULT_PORTS.get(scheme) else port}"


def prefix_of(value: object, place: str) -> str:
    """A path below which everything is mounted. Raises SettingsError."""
    if not isinstance(value, str) or not _PREFIX.fullmatch(value) or {".", ".."} & set(value.split("/")):
        raise SettingsError(
            f"{place} must begin with / and must not end with it, such as /agents, not {value!r}."
        )
    return value


def _implied(groups: Iterable[RouteGroup]) -> frozenset[RouteGroup]:
    found = frozenset(groups)
    # Who closes runs does not want them started by another way in.
    return found | STARTING if RouteGroup.RUNS in found else found


def _app(value: object, file: Path) -> AppSpec:
    location, _, variable = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if not isinstance(value, str) or not location or not variable.isidentifier():
        raise SettingsError(
            f"{file}: http.app: write ./file.py:variable or package.module:variable, not {value!r}."
        )
    if "/" not in location and not location.endswith(".py"):
        return AppSpec(value, location, variable)
    if not location.endswith(".py"):
        raise SettingsError(f"{file}: http.app: {location} is not a Python file.")
    return AppSpec(value, (file.parent / location).resolve(), variable)


def _flag(content: Mapping[str, Any], key: str, file: Path) -> bool:
    value = content.get(key)
    if value is not None and not isinstance(value, bool):
        raise SettingsError(f"{file}: http.{key} must be true or false, not {value!r}.")
    return bool(value)


def _headers(content: Mapping[str, Any], key: str, file: Path) -> HeaderFilter:
    value = content.get(key)
    if value is None:
        return HeaderFilter()
    if not isinstance(value, dict):
        raise SettingsError(f'{file}: http.{key} must be an object, such as {{"includes": ["x-*"]}}.')
    unknown = sorted(set(value) - {"includes", "excludes", "include", "exclude"})
    if unknown:
        raise SettingsError(f"{file}: http.{key}: unknown key {unknown[0]!r}; use includes and excludes.")
    patterns = []
    for names in (("includes", "include"), ("excludes", "exclude")):
        found = value.get(names[0]) or value.get(names[1]) or []
        if not isinstance(found, list) or not all(isinstance(item, str) and item for item in found):
            raise SettingsError(
                f'{file}: http.{key}.{names[0]} must be a list of names such as ["x-*"], not {found!r}.'
            )
        patterns.append(tuple(item.lower() for item in found))
    includes, excludes = patterns
    return HeaderFilter(includes, excludes, names_suffice=key == "configurable_headers")


def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str] | None:
    """Only `*` is special; several in a row are one, so that no name takes long."""
    if not patterns:
        return None
    parts = (".*".join(map(re.escape, re.split(r"\*+", pattern))) for pattern in patterns)
    return re.compile("|".join(f"(?:{part})" for part in parts))
