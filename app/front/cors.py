"""Which pages of other origins may call, and what they may read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

# `Location` is what lets a client reconnect.
EXPOSED = ("Content-Location", "Location", "X-Pagination-Next", "X-Pagination-Total")


def defaults(origins: Collection[str] = ("*",)) -> dict[str, Any]:
    """Arguments of Starlette's CORSMiddleware. Cookies only for origins that are named."""
    return {
        "allow_origins": list(origins),
        "allow_credentials": "*" not in origins,
        "allow_methods": ["*"],
        "allow_headers": ["*"],
        "expose_headers": list(EXPOSED),
    }


def hides_runs(cors: Mapping[str, Any]) -> bool:
    """Whether a page could not read which run it has started."""
    return "content-location" not in {name.lower() for name in cors.get("expose_headers", ())}
