"""The page that shows the API and tries it out: Swagger UI, all of whose files come from this server.

It is Swagger UI because ReDoc sends no requests, and Scalar is several times as large. The files are those of npm's `swagger-ui-dist`
(Apache-2.0), compressed: 0.5 MB. `scripts/swagger_ui.py` writes them, from the version that tests/browser/package-lock.json pins.
"""

from __future__ import annotations

import zlib
from functools import cache
from html import escape
from pathlib import Path

from fastapi import Request, Response

FOLDER = Path(__file__).with_name("swagger_ui")
VERSION = "5.35.0"

FILES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "oauth2-redirect.js": "text/javascript",
    "start.js": "text/javascript",
}
"""Those that a page asks for, with their types."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing from elsewhere, and no script in the page itself: what the document says, which a project's own routes are in, is never run."""

_GZIP = 16 + zlib.MAX_WBITS
"""What tells zlib that there is gzip's head; the module of that name is imported by nothing else on a cold start."""

_PAGE = f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Slackwater: API</title>
<link rel="icon" href="data:,">
<link rel="service-desc" type="application/json" href="{{document}}">
<link rel="stylesheet" href="docs/swagger-ui.css?{VERSION}">
<script src="docs/swagger-ui-bundle.js?{VERSION}"></script>
<script src="docs/start.js?{VERSION}"></script>
</head>
<body><div id="swagger-ui"></div></body>
</html>
"""
_REDIRECT = f"""\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><script src="oauth2-redirect.js?{VERSION}"></script></head></html>
"""


def page(request: Request) -> Response:
    """The page itself."""
    prefix = request.scope.get("root_path", "")
    return _html(_PAGE.format(document=escape(f"{prefix}/openapi.json" if prefix else "openapi.json")))


def redirect_page() -> Response:
    """Where an authorization server sends the browser back to; it tells the page that is waiting."""
    return _html(_REDIRECT)


def file(request: Request, name: str) -> Response:
    """One of FILES."""
    headers = {"Cache-Control": "public, max-age=86400"}
    content, compressed = _content(name)
    if compressed:
        headers["Vary"] = "Accept-Encoding"
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
        else:
            content = zlib.decompress(content, _GZIP)
    return Response(content, headers=headers, media_type=FILES[name])


def _html(text: str) -> Response:
    return Response(text, headers={"Content-Security-Policy": POLICY}, media_type="text/html")


@cache
def _content(name: str) -> tuple[bytes, bool]:
    """What is kept of a file, and whether that is compressed."""
    kept = FOLDER / f"{name}.gz"
    return (kept.read_bytes(), True) if kept.exists() else ((FOLDER / name).read_bytes(), False)
