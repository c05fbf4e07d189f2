"""What `http` in `langgraph.json` may say, and the sentence for what it may not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slackwater.errors import SettingsError
from slackwater.project.http import AppSpec, HeaderFilter, HttpSpec, RouteGroup
from slackwater.project.project import Project
from slackwater.web.route_table import group_of


def read(folder: Path, http: object) -> Project:
    content = {"graphs": {"agent": "./agent.py:graph"}, "http": http}
    (folder / "langgraph.json").write_text(json.dumps(content))
    return Project.read(folder)


def test_a_project_without_it_has_the_defaults(tmp_path: Path) -> None:
    assert read(tmp_path, None).http == read(tmp_path, {}).http == HttpSpec()


def test_all_of_it(tmp_path: Path) -> None:
    cors = {"allow_origins": ["https://a.example"], "max_age": 60}
    http = {
        "app": "./src/web.py:app",
        "cors": cors,
        "mount_prefix": "/agents/v1",
        "disable_store": True,
        "disable_runs": True,
        "disable_mcp": False,
        "configurable_headers": {"includes": ["X-*"], "excludes": ["x-secret"]},
        "logging_headers": {"include": ["user-agent"]},
        "enable_custom_route_auth": True,
        "middleware_order": "auth_first",
    }

    project = read(tmp_path, http)

    assert project.warnings == ()
    assert project.http == HttpSpec(
        app=AppSpec("./src/web.py:app", tmp_path / "src/web.py", "app"),
        cors=cors,
        mount_prefix="/agents/v1",
        # Whoever closes runs does not want them started in other ways.
        disabled=frozenset(
            {
                RouteGroup.STORE,
                RouteGroup.RUNS,
                RouteGroup.CRONS,
                RouteGroup.EVENT_STREAMING,
                RouteGroup.MCP,
                RouteGroup.A2A,
            }
        ),
        configurable_headers=HeaderFilter(("x-*",), ("x-secret",)),
        logging_headers=HeaderFilter(("user-agent",)),
        custom_route_auth=True,
        auth_first=True,
    )


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://Chat.Example.org/", "https://chat.example.org"),
        ("https://chat.example.org:443", "https://chat.example.org"),
        ("http://chat.example.org:80", "http://chat.example.org"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://chat.example.org:443", "http://chat.example.org:443"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("chrome-extension://abc", "chrome-extension://abc"),
        ("*", "*"),
        ("null", "null"),
    ],
)
def test_an_origin_is_as_browsers_send_it(tmp_path: Path, written: str, sent: str) -> None:
    from slackwater.settings import Settings

    assert read(tmp_path, {"cors": {"allow_origins": [written]}}).http.cors == {"allow_origins": [sent]}
    assert Settings.load(cors_allow_origins=f"{written}, https://b.example").cors_allow_origins == (
        sent,
        "https://b.example",
    )
    config = Settings.load(cors_config=json.dumps({"allow_origins": [written]})).cors_config
    assert config == {"allow_origins": [sent]}


def test_an_app_may_be_in_a_module(tmp_path: Path) -> None:
    assert read(tmp_path, {"app": "pkg.web:app"}).http.app == AppSpec("pkg.web:app", "pkg.web", "app")


def test_unknown_keys_are_named(tmp_path: Path) -> None:
    (warning,) = read(tmp_path, {"colour": "blue", "disable_all": True}).warnings

    assert warning.endswith("http: these keys have no effect: colour, disable_all")


@pytest.mark.parametrize(
    ("http", "sentence"),
    [
        ([1], "http must be an object"),
        (
            {"app": "./web.py"},
            "http.app: write ./file.py:variable or package.module:variable, not './web.py'",
        ),
        ({"app": 7}, "not 7"),
        ({"app": "./web.ts:app"}, "http.app: ./web.ts is not a Python file"),
        ({"cors": ["*"]}, "http.cors must be an object"),
        (
            {"cors": {"allow_origin": ["*"]}},
            "http.cors.allow_origin is not one of allow_origins, allow_methods",
        ),
        ({"cors": {"allow_origins": "*"}}, "http.cors.allow_origins must be a list of strings, not '*'"),
        (
            {"cors": {"allow_origins": ["chat.example.org"]}},
            "http.cors.allow_origins: 'chat.example.org' is no origin: write its scheme and host",
        ),
        ({"cors": {"allow_origins": ["https://*.example.org"]}}, "use allow_origin_regex for several"),
        ({"cors": {"allow_origins": ["https://a.example/page"]}}, "is no origin"),
        ({"cors": {"max_age": True}}, "http.cors.max_age must be a number of seconds"),
        (
            {"cors": {"allow_origin_regex": "("}},
            "http.cors.allow_origin_regex is not a valid regular expression",
        ),
        ({"mount_prefix": "agents"}, "http.mount_prefix must begin with / and must not end with it"),
        ({"mount_prefix": "/agents/"}, "http.mount_prefix must begin with / and must not end with it"),
        ({"mount_prefix": "/a/../b"}, "http.mount_prefix must begin with / and must not end with it"),
        ({"disable_store": "yes"}, "http.disable_store must be true or false, not 'yes'"),
        ({"middleware_order": "last"}, "http.middleware_order must be one of middleware_first, auth_first"),
        ({"configurable_headers": ["x-*"]}, "http.configurable_headers must be an object"),
        ({"logging_headers": {"includes": "x-*"}}, "http.logging_headers.includes must be a list of names"),
        ({"logging_headers": {"only": []}}, "http.logging_headers: unknown key 'only'"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(tmp_path: Path, http: object, sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, http)

    assert sentence in caught.value.message
    assert str(tmp_path) in caught.value.message


@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        (HeaderFilter(), []),
        (HeaderFilter(excludes=("x-b",)), []),
        (HeaderFilter(("x-*",)), ["x-a", "x-b"]),
        (HeaderFilter(("x-*",), ("*-b",)), ["x-a"]),
        (HeaderFilter(("*",)), ["accept", "x-a", "x-b"]),
        (HeaderFilter(("accept", "authorization", "x-api-key")), ["accept"]),
        (HeaderFilter(("x.a",)), []),
    ],
)
def test_a_filter_lets_through_what_is_included_and_never_a_secret(
    filters: HeaderFilter, passes: list[str]
) -> None:
    names = ["Accept", "X-A", "x-b", "Authorization", "X-API-Key", "x-tenant-id", "x-service-key"]

    assert sorted(filters.pick([(name.encode(), b"1") for name in names])) == passes


SECRETS = (
    *(
        "Authorization",
        "Proxy-Authorization",
        "Cookie",
        "Set-Cookie",
        "X-API-Key",
        "X-Auth-Token",
        "X-CSRF-Token",
    ),
    *("X-Amz-Security-Token", "X-Amzn-Oidc-Data", "X-Goog-Iap-Jwt-Assertion", "Cf-Access-Jwt-Assertion"),
    *("X-Forwarded-Access-Token", "Sec-WebSocket-Protocol", "X-Tenant-Id", "X-Service-Key"),
)


@pytest.mark.parametrize("key", ["configurable_headers", "logging_headers"])
def test_what_proves_who_calls_is_never_handed_on(tmp_path: Path, key: str) -> None:
    includes = ["*", *(name.lower() for name in SECRETS)]
    filters = getattr(read(tmp_path, {key: {"includes": includes}}).http, key)

    picked = filters.pick([(name.encode(), b"1") for name in (*SECRETS, "X-Session-Id")])

    assert picked == {"x-session-id": "1"}


@pytest.mark.parametrize(
    ("key", "passes"),
    [
        ("configurable_headers", {"x-acme-token": "2", "x-max-tokens": "3"}),
        ("logging_headers", {"x-max-tokens": "3"}),
    ],
)
def test_a_name_that_looks_like_a_secret_passes_only_in_full_and_never_into_the_log(
    tmp_path: Path, key: str, passes: dict[str, str]
) -> None:
    filters = getattr(read(tmp_path, {key: {"includes": ["x-*", "X-Acme-Token"]}}).http, key)

    headers = [
        (b"X-Other-Token", b"1"),
        (b"X-Acme-Token", b"2"),
        (b"X-Max-Tokens", b"3"),
        (b"X-DB-Password", b"4"),
    ]
    assert filters.pick(headers) == passes


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("/assistants/search", RouteGroup.ASSISTANTS),
        ("/threads", RouteGroup.THREADS),
        ("/threads/t/stream", RouteGroup.THREADS),
        ("/threads/t/state/checkpoint", RouteGroup.THREADS),
        ("/threads/t/runs", RouteGroup.RUNS),
        ("/threads/t/runs/r/stream", RouteGroup.RUNS),
        ("/runs/batch", RouteGroup.RUNS),
        ("/threads/t/runs/crons", RouteGroup.CRONS),
        ("/runs/crons/search", RouteGroup.CRONS),
        ("/threads/t/stream/events", RouteGroup.EVENT_STREAMING),
        ("/threads/t/commands", RouteGroup.EVENT_STREAMING),
        ("/store/items", RouteGroup.STORE),
        ("/mcp", RouteGroup.MCP),
        ("/mcp/", RouteGroup.MCP),
        ("/a2a/x/.well-known/agent-card.json", RouteGroup.A2A),
        ("/.well-known/agent-card.json", RouteGroup.A2A),
        ("/ui/agent", RouteGroup.UI),
        ("/", RouteGroup.META),
        ("/docs", RouteGroup.META),
        ("/docs/oauth2-redirect", RouteGroup.META),
        ("/ok", None),
        ("/ready", None),
        ("/health", None),
        ("/mine", None),
    ],
)
def test_the_group_of_a_route(path: str, group: RouteGroup | None) -> None:
    assert group_of(path) is group


def test_settings_say_what_is_wrong_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from slackwater.settings import Settings

    given: dict[str, dict[str, Any]] = {
        "CORS_CONFIG": {"{": "must be JSON", '{"max_age": "long"}': "max_age must be a number of seconds"},
        "CORS_ALLOW_ORIGINS": {"https://a.example,b.example": "'b.example' is no origin"},
        "MOUNT_PREFIX": {"agents": "must begin with / and must not end with it"},
    }
    for name, wrong in given.items():
        for value, sentence in wrong.items():
            monkeypatch.setenv(name, value)
            with pytest.raises(SettingsError, match=sentence) as caught:
                Settings.load()
            assert name in caught.value.message
            monkeypatch.delenv(name)
