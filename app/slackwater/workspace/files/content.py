"""What kind of file something is, and what a browser may do with it."""

from __future__ import annotations

from collections.abc import Mapping
from mimetypes import MimeTypes
from pathlib import PurePosixPath
from urllib.parse import quote

_types = MimeTypes()  # what is built in, and nothing of this machine
for _suffix, _type in {
    ".csv": "text/csv",
    ".jsonl": "application/jsonl",
    ".md": "text/markdown",
    ".skill": "application/zip",
    ".svgz": "image/svg+xml",
    ".toml": "application/toml",
    ".webp": "image/webp",
    ".xht": "application/xhtml+xml",
    ".xhtml": "application/xhtml+xml",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}.items():
    _types.add_type(_type, _suffix)

UNKNOWN = "application/octet-stream"

HEAD_BYTES = 8192
"""How much of a file says whether it is text."""

_ACTIVE = frozenset({"text/html", "text/xml", "application/xml", "multipart/related", "message/rfc822"})
_NEVER_TEXT = ("image/", "audio/", "video/", "font/")
_NOT_TEXT = frozenset({"application/pdf", "application/zip"})

_SHOWN = "default-src 'none'; img-src 'self'; media-src 'self'; object-src 'self'; style-src 'unsafe-inline'; frame-ancestors 'self'"
"""A page of the same origin may show it in a frame, and nothing in it runs."""
_SAVED = "sandbox; default-src 'none'; frame-ancestors 'none'"


def type_of(name: str) -> str:
    """By its suffix alone, whatever this machine thinks of it."""
    return _types.guess_type(PurePosixPath(name).name, strict=False)[0] or UNKNOWN


def is_active(kind: str) -> bool:
    """Whether a browser that shows it runs what is in it: HTML, SVG and all XML."""
    return kind in _ACTIVE or kind.endswith("+xml") or "xhtml" in kind


def may_be_text(kind: str) -> bool:
    """Whether the bytes have to say."""
    return not kind.startswith(_NEVER_TEXT) and kind not in _NOT_TEXT


def looks_like_text(head: bytes) -> bool:
    return b"\0" not in head


def headers_of(name: str, *, kind: str, text: bool, download: bool) -> Mapping[str, str]:
    """`Content-Type`, `Content-Disposition` unless it is shown as text, and what a browser may do with it."""
    saved = download or is_active(kind)
    shown = ("text/plain" if kind == UNKNOWN else kind) if text else kind
    told = {
        "Content-Type": f"{shown}; charset=utf-8" if text else shown,
        "Content-Security-Policy": _SAVED if saved else _SHOWN,
        "X-Content-Type-Options": "nosniff",
    }
    if saved or not text:
        told["Content-Disposition"] = disposition(name, saved=saved)
    return told


def disposition(name: str, *, saved: bool) -> str:
    """`Content-Disposition` as RFC 6266 and RFC 5987 write it."""
    return (
        f"{'attachment' if saved else 'inline'}; filename*=UTF-8''{quote(PurePosixPath(name).name, safe='')}"
    )
