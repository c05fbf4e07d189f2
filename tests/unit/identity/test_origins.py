"""Which page has sent a request, as its browser says."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from slackwater.identity.origins import NO_ORIGINS, Origins, WhosePage, normal, own, page_of
from slackwater.web.middleware import cors
from tests.support.properties import untimed

OWN = "https://app.example"
LISTED = Origins.of(
    cors.defaults(("https://chat.example", "https://port.example:443", "http://localhost:3000"))
)


def scope_of(host: str | None = "app.example", scheme: str = "https", **headers: str) -> dict[str, Any]:
    named = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return {"scheme": scheme, "headers": [*([(b"host", host.encode())] if host is not None else []), *named]}


@pytest.mark.parametrize(
    ("origin", "same"),
    [
        ("https://app.example", "https://app.example"),
        ("HTTPS://App.Example:443", "https://app.example"),
        ("https://app.example:8443", "https://app.example:8443"),
        ("http://app.example:443", "http://app.example:443"),
        ("http://localhost:80", "http://localhost"),
        ("http://[::1]:3000", "http://[::1]:3000"),
    ],
)
def test_an_origin_has_one_form(origin: str, same: str) -> None:
    """F1: default ports are equivalent."""
    assert normal(origin) == same


WRONG = (
    "",
    "null",
    "*",
    "app.example",
    "//app.example",
    "https:app.example",
    "https://",
    "https://app.example/",
    "https://app.example/path",
    "https://app.example?query",
    "https://app.example#fragment",
    "https://user@app.example",
    "https://user:password@app.example",
    "https://app.example:",
    "https://app.example:port",
    "https://app.example:0",
    "https://app.example:65536",
    "https://app.example:-1",
    "https://app.example, https://evil.example",
    "https://app.example https://evil.example",
    " https://app.example",
    "https://app.example\n",
    "https://*.example",
    "ftp://app.example",
    "file://",
    "chrome-extension://abcdef",
)


@pytest.mark.parametrize("origin", WRONG)
def test_what_is_no_origin(origin: str) -> None:
    """F1: credentials, a path, a query, a fragment, a bad port."""
    assert normal(origin) is None
    assert page_of(Headers({"origin": origin}), OWN, LISTED) is WhosePage.FOREIGN


@untimed
@given(st.text(st.characters(max_codepoint=255), max_size=60))
def test_a_normal_origin_stays_as_it_is(text: str) -> None:
    for origin in (text, f"https://{text}"):
        found = normal(origin)
        assert found is None or normal(found) == found


def test_the_origin_that_the_server_was_called_as() -> None:
    assert own(scope_of()) == OWN
    assert own(scope_of(scheme="wss", host="APP.example:443")) == OWN
    assert own(scope_of(scheme="ws", host="localhost:2024")) == "http://localhost:2024"
    assert own(scope_of(host=None)) is None
    assert own(scope_of(host="user@app.example")) is None
    assert (
        own({"scheme": "https", "headers": [(b"host", b"app.example"), (b"host", b"evil.example")]}) is None
    )


SITES = ("same-origin", "same-site", "cross-site", "none", "", "nonsense")


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize(
    ("origin", "page"),
    [
        (OWN, WhosePage.OURS),
        ("https://app.example:443", WhosePage.OURS),
        ("http://app.example", WhosePage.FOREIGN),
        ("https://app.example:8443", WhosePage.FOREIGN),
        ("https://evil.example", WhosePage.FOREIGN),
        ("https://app.example.evil.example", WhosePage.FOREIGN),
        ("https://chat.example", WhosePage.OURS),
        ("https://port.example", WhosePage.OURS),
        ("null", WhosePage.FOREIGN),
    ],
)
def test_the_page_by_origin(origin: str, page: WhosePage, site: str) -> None:
    """F1. A browser that says that the request crosses sites is right, unless the page is listed."""
    headers = Headers({"origin": origin, **({"sec-fetch-site": site} if site else {})})
    listed = normal(origin) in LISTED.listed
    expected = WhosePage.FOREIGN if site in ("same-site", "cross-site") and not listed else page
    assert page_of(headers, OWN, LISTED) is expected


@pytest.mark.parametrize(
    ("site", "page"),
    [
        ("same-origin", WhosePage.OURS),
        ("same-site", WhosePage.FOREIGN),
        ("cross-site", WhosePage.FOREIGN),
        ("none", WhosePage.UNSAID),
        ("", WhosePage.UNSAID),
    ],
)
def test_the_page_without_origin(site: str, page: WhosePage) -> None:
    assert page_of(Headers({"sec-fetch-site": site} if site else {}), OWN, LISTED) is page


def test_two_origins_are_foreign() -> None:
    headers = Headers(raw=[(b"origin", OWN.encode()), (b"origin", OWN.encode())])
    assert page_of(headers, OWN) is WhosePage.FOREIGN


def test_without_an_own_origin_only_what_is_listed_is_ours() -> None:
    assert page_of(Headers({"origin": OWN}), None) is WhosePage.FOREIGN
    assert page_of(Headers({"origin": "https://chat.example"}), None, LISTED) is WhosePage.OURS


@pytest.mark.parametrize(
    "config",
    [
        None,
        cors.defaults(),
        {"allow_origins": ["*"], "allow_credentials": False},
        {"allow_origins": ["https://chat.example"]},
        {"allow_origins": ["https://chat.example"], "allow_credentials": False},
    ],
)
def test_who_may_call_without_cookies_is_not_listed(config: Any) -> None:
    """F1: a wildcard is not an allowance."""
    assert Origins.of(config) == NO_ORIGINS
    assert page_of(Headers({"origin": "https://chat.example"}), OWN, Origins.of(config)) is WhosePage.FOREIGN


def test_an_expression_lists_what_it_matches_whole() -> None:
    listed = Origins.of({"allow_origin_regex": r"https://\w+\.chat\.example", "allow_credentials": True})
    assert listed.pattern == re.compile(r"https://\w+\.chat\.example")
    assert "https://a.chat.example" in listed
    assert "https://a.chat.example.evil" not in listed
    assert "https://chat.example" not in listed
