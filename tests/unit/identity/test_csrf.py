"""Which requests may have been made by a page of another site: every method, token, type of body and origin."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slackwater.errors import CrossSiteLogin, CsrfTokenMismatch, CsrfTokenMissing, ForeignPage, NotJson
from slackwater.identity import csrf
from slackwater.identity.origins import NO_ORIGINS, Origins
from slackwater.web.middleware import cors
from tests.support.properties import untimed

TOKEN = csrf.new_token()
EXPECTED = csrf.digest(TOKEN)
OURS, FOREIGN = "https://app.example", "https://evil.example"
LISTED = Origins.of(cors.defaults(("https://chat.example",)))

JSON = "application/json"
FORM, TEXT, MULTIPART = "application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"


def scope_of(
    method: str = "POST", query: str = "", kind: str = "http", body: bool = True, **headers: str | None
) -> dict[str, Any]:
    said = {"host": "app.example", "content-length": "2" if body else None, **headers}
    return {
        "type": kind,
        **({"method": method} if kind == "http" else {}),
        "scheme": "https" if kind == "http" else "wss",
        "query_string": query.encode(),
        "headers": [
            (name.replace("_", "-").encode(), value.encode())
            for name, value in said.items()
            if value is not None
        ],
    }


def of_session(*, expected: str | None = EXPECTED, of_api: bool = True, **request: Any) -> type | None:
    found = csrf.refusal_of_session(scope_of(**request), expected, LISTED, of_api=of_api)
    return None if found is None else type(found)


UNSAFE = ("POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "MKCOL", "post")


@pytest.mark.parametrize("method", UNSAFE)
def test_what_changes_something_needs_the_token(method: str) -> None:
    """F2: missing, mismatch, match."""
    for origin in (None, OURS, FOREIGN, "https://chat.example"):
        request: dict[str, Any] = {"method": method, "origin": origin, "content_type": JSON}
        assert of_session(**request) is CsrfTokenMissing
        assert of_session(**request, x_csrf_token="") is CsrfTokenMissing
        assert of_session(**request, x_csrf_token=csrf.new_token()) is CsrfTokenMismatch
        assert of_session(**request, x_csrf_token=EXPECTED) is CsrfTokenMismatch
        assert of_session(**request, x_csrf_token=TOKEN + "x") is CsrfTokenMismatch
        assert of_session(**request, x_csrf_token=TOKEN) is None
        # A pair that belongs together, but to nobody's session: what the seed let through.
        assert of_session(**request, x_csrf_token="a", cookie="csrf_token=a") is CsrfTokenMismatch


def test_a_session_without_a_token_changes_nothing() -> None:
    for token in (TOKEN, "x", csrf.digest("")):
        assert of_session(expected=None, x_csrf_token=token, content_type=JSON) is CsrfTokenMismatch


@untimed
@given(st.text(max_size=100))
def test_no_other_token_matches(token: str) -> None:
    scope = scope_of(content_type=JSON)
    scope["headers"].append((b"x-csrf-token", token.encode("utf-8", "replace")))
    assert isinstance(
        csrf.refusal_of_session(scope, EXPECTED, NO_ORIGINS, of_api=True),
        CsrfTokenMissing | CsrfTokenMismatch,
    )


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_what_changes_nothing_needs_none(method: str) -> None:
    """F2: GET is never checked."""
    for origin, query in itertools.product((None, OURS, FOREIGN), ("", "limit=1", "stream_mode=values")):
        assert of_session(method=method, query=query, origin=origin, body=False) is None


CHANGING = (
    "action=interrupt",
    "action=rollback",
    "cancel_on_disconnect=1",
    "cancel_on_disconnect=true",
    "cancel_on_disconnect=YES",
    "cancel_on_disconnect=0&cancel_on_disconnect=1",
    "cancel%5Fon%5Fdisconnect=1",
    "stream_mode=values&%61ction=interrupt",
)


@pytest.mark.parametrize("query", CHANGING)
def test_a_get_that_changes_something_is_one_of_our_pages(query: str) -> None:
    """6.2 no. 5: a link on another site, which is followed with the cookie."""
    for said in (
        {},
        {"sec_fetch_site": "none"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"origin": FOREIGN},
        {"origin": "null"},
        {"x_csrf_token": "wrong"},
    ):
        assert of_session(method="GET", query=query, body=False, **said) is CsrfTokenMissing
    for said in (
        {"sec_fetch_site": "same-origin"},
        {"origin": OURS},
        {"origin": "https://chat.example"},
        {"x_csrf_token": TOKEN},
        {"x_csrf_token": TOKEN, "sec_fetch_site": "cross-site"},
    ):
        assert of_session(method="GET", query=query, body=False, **said) is None
    # AND what a parameter of the project's own routes means, the project knows
    assert of_session(method="GET", query=query, body=False, of_api=False) is None


@pytest.mark.parametrize(
    "query", ["cancel_on_disconnect=0", "cancel_on_disconnect=false", "action=", "reaction=x"]
)
def test_a_get_that_only_mentions_it(query: str) -> None:
    assert of_session(method="GET", query=query, body=False) is None


@pytest.mark.parametrize(
    ("kind", "accepted"),
    [
        (JSON, True),
        ("Application/JSON; charset=utf-8", True),
        ("application/merge-patch+json", True),
        (MULTIPART, True),
        (FORM, False),
        (TEXT, False),
        ("text/plain; application/json", False),
        ("application/jsonp", False),
        ("", False),
        (None, False),
    ],
)
def test_the_type_of_a_body(kind: str | None, accepted: bool) -> None:
    for length in ({}, {"content-length": None, "transfer_encoding": "chunked"}):
        found = of_session(x_csrf_token=TOKEN, content_type=kind, **length)
        assert found is (None if accepted else NotJson)
        assert of_session(x_csrf_token=TOKEN, content_type=kind, of_api=False, **length) is None


def test_no_body_has_no_type() -> None:
    for length in ("0", None):
        assert of_session(x_csrf_token=TOKEN, **{"content-length": length}) is None


@pytest.mark.parametrize(
    ("origin", "connects"),
    [
        (None, False),
        ("null", False),
        (FOREIGN, False),
        (f"{OURS}:8443", False),
        ("http://app.example", False),
        (OURS, True),
        (f"{OURS}:443", True),
        ("https://chat.example", True),
    ],
)
def test_a_websocket_by_cookie_says_its_page(origin: str | None, connects: bool) -> None:
    expected = None if connects else ForeignPage
    assert of_session(kind="websocket", origin=origin, body=False) is expected
    # AND it cannot send the token, so it need not
    assert of_session(kind="websocket", origin=origin, body=False, x_csrf_token=TOKEN) is expected
    found = csrf.refusal_of_others(
        scope_of(kind="websocket", origin=origin, body=False, cookie="a=b"), LISTED
    )
    assert (found is None) is connects


# Whoever else says who calls


@pytest.mark.parametrize(
    ("said", "alone"),
    [
        ({}, False),
        ({"cookie": "session=x"}, True),
        ({"authorization": "Basic dTpw"}, True),
        ({"authorization": "Negotiate x"}, True),
        ({"authorization": "Bearer x"}, False),
        ({"authorization": "bearer x", "cookie": "session=x"}, False),
        ({"authorization": "AWS4-HMAC-SHA256 Credential=x"}, False),
        ({"x_api_key": "x", "cookie": "session=x"}, False),
        ({"x_token": "x"}, False),
    ],
)
def test_json_is_insisted_on_unless_the_client_itself_has_sent_what_names_it(
    said: dict[str, str], alone: bool
) -> None:
    for kind in (FORM, TEXT, MULTIPART, None):
        found = csrf.refusal_of_others(scope_of(content_type=kind, **said), LISTED)
        assert isinstance(found, NotJson) if alone else found is None
    for request in (
        scope_of(content_type=JSON, **said),
        scope_of(content_type=None, body=False, **said),
        scope_of("GET", "cancel_on_disconnect=1", body=False, **said),
    ):
        assert csrf.refusal_of_others(request, LISTED) is None


# Requests that begin or end a session


@pytest.mark.parametrize(
    ("said", "passes"),
    [
        ({}, True),
        ({"origin": OURS}, True),
        ({"origin": f"{OURS}:443"}, True),
        ({"origin": "https://chat.example"}, True),
        ({"origin": "https://chat.example", "sec_fetch_site": "cross-site"}, True),
        ({"origin": OURS, "sec_fetch_site": "same-origin"}, True),
        ({"sec_fetch_site": "none"}, True),
        ({"origin": FOREIGN}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"origin": f"{OURS}/path"}, False),
        ({"origin": "https://user@app.example"}, False),
        ({"origin": f"{OURS}:99999"}, False),
        ({"origin": FOREIGN, "sec_fetch_site": "same-origin"}, False),
        ({"origin": OURS, "sec_fetch_site": "cross-site"}, False),
        ({"sec_fetch_site": "cross-site"}, False),
        ({"sec_fetch_site": "same-site"}, False),
    ],
)
def test_a_login_comes_from_our_page_or_from_none(said: dict[str, str], passes: bool) -> None:
    """F1."""
    for kind in (FORM, JSON, TEXT):
        found = csrf.refusal_of_login(scope_of(content_type=kind, **said), LISTED)
        assert found is None if passes else isinstance(found, CrossSiteLogin)
    assert csrf.refusal_of_login(scope_of("GET", body=False, **said), LISTED) is None


def test_the_words_that_pages_know() -> None:
    """F1, F2."""
    assert CsrfTokenMissing().message == "CSRF token missing. Include X-CSRF-Token header."
    assert CsrfTokenMismatch().message == "CSRF token mismatch."
    assert CrossSiteLogin().message == "Cross-site auth request denied."
    assert (CsrfTokenMissing.status, CsrfTokenMismatch.status, CrossSiteLogin.status) == (403, 403, 403)
    assert NotJson.status == 415
