"""Requests that a page of another site makes a user's browser send (CSRF).

The browser adds cookies by itself, so a cookie proves who the user is, and not that they want this. What proves it is a header that only
a page of ours can send: the token of the session, which other sites cannot read. Whoever sends a key or a bearer token has put it there, and
needs nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64encode
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.types import Scope

from slackwater.errors import (
    ApiError,
    CrossSiteLogin,
    CsrfTokenMismatch,
    CsrfTokenMissing,
    ForeignPage,
    NotJson,
)
from slackwater.identity.keys import INTERNAL_TOKEN
from slackwater.identity.origins import Origins, WhosePage, own, page_of

COOKIE = "csrf_token"
"""Readable by scripts of our pages, which send its value as the header."""
HEADER = "x-csrf-token"

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing, but for these parameters:"""
CHANGING = frozenset({"cancel_on_disconnect", "action"})
_NO = frozenset({"", "0", "false", "no"})

_BY_THE_BROWSER = frozenset({"basic", "digest", "negotiate", "ntlm"})
"""Schemes of Authorization that a browser repeats by itself, as it does cookies."""


def new_token() -> str:
    return secrets.token_urlsafe(32)


def digest(token: str) -> str:
    """What a session keeps of its token."""
    return urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode()


def refusal_of_login(scope: Scope, listed: Origins) -> ApiError | None:
    """Why a request that begins or ends a session may be another site's, which would put its user into a session of that site's choice."""
    if scope["type"] != "http" or scope["method"] in SAFE:
        return None
    page = page_of(Headers(scope=scope), own(scope), listed)
    return CrossSiteLogin() if page is WhosePage.FOREIGN else None


def refusal_of_session(
    scope: Scope, expected: str | None, listed: Origins, *, of_api: bool
) -> ApiError | None:
    """Why a request with a session's cookie may be another site's. `expected`: the digest of the session's token; `of_api`: it is for a
    route of the API, not for one of the project's own application."""
    headers = Headers(scope=scope)
    if scope["type"] == "websocket":
        return _of_socket(scope, headers, listed)
    token = headers.get(HEADER, "")
    matches = hmac.compare_digest(digest(token), expected or "")
    if scope["method"] in SAFE:
        if not of_api or not _changes(scope["query_string"]) or matches:
            return None
        # Our own page need not send the token with a GET.
        return None if page_of(headers, own(scope), listed) is WhosePage.OURS else CsrfTokenMissing()
    if not token:
        return CsrfTokenMissing()
    if not matches:
        return CsrfTokenMismatch()
    return None if not of_api or is_json(headers) or _is_upload(headers) else NotJson()


def refusal_of_others(scope: Scope, listed: Origins) -> ApiError | None:
    """Why a request to the API, whose caller the project's own authentication or an authorizer in front has named, may be another site's:
    they may go by a cookie."""
    headers = Headers(scope=scope)
    if not by_the_browser(headers):
        return None
    if scope["type"] == "websocket":
        return _of_socket(scope, headers, listed)
    return None if scope["method"] in SAFE or is_json(headers) else NotJson()


def by_the_browser(headers: Headers) -> bool:
    """Whether who calls can have been said by the browser alone, whichever page has sent the request."""
    if "x-api-key" in headers or INTERNAL_TOKEN in headers:
        return False
    authorization = headers.get("authorization")
    if authorization is not None:
        return authorization.partition(" ")[0].lower() in _BY_THE_BROWSER
    return "cookie" in headers


def is_json(headers: Headers) -> bool:
    """Whether a body, if there is one, is declared as JSON, which no page of another site can do unasked."""
    types = [kind.partition(";")[0].strip().lower() for kind in headers.getlist("content-type")]
    if not types:
        return headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
    return all(kind == "application/json" or kind.endswith("+json") for kind in types)


def _of_socket(scope: Scope, headers: Headers, listed: Origins) -> ApiError | None:
    # Browsers always say the origin, and let any page connect.
    said = "origin" in headers and page_of(headers, own(scope), listed) is WhosePage.OURS
    return None if said else ForeignPage()


def _changes(query: bytes) -> bool:
    """Whether a GET with this query would change something."""
    return any(
        name in CHANGING and value.lower() not in _NO
        for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    )


def _is_upload(headers: Headers) -> bool:
    return headers.get("content-type", "").partition(";")[0].strip().lower() == "multipart/form-data"
