"""Every route of the official server that has to be compared: those of its OpenAPI document, and those it leaves out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

BESIDE_THE_DOCUMENT = frozenset(
    {("GET", path) for path in ("/", "/docs", "/openapi.json", "/runs/{run_id}/stream")}
    | {("GET", "/assistants/{assistant_id}/subgraphs/{namespace}")}
)

NEVER = ("/ui/", "/internal/", "/v1/", "/noauth/")
"""Generative user interfaces and the product's own plumbing: of no SDK's."""


def wanted(openapi: dict[str, Any]) -> set[tuple[str, str]]:
    """Methods and paths of the document that a scenario has to call."""
    documented = {
        (method.upper(), path)
        for path, operations in openapi["paths"].items()
        for method in operations
        if method in ("get", "post", "put", "patch", "delete")
    }
    return {(method, path) for method, path in documented | BESIDE_THE_DOCUMENT if not path.startswith(NEVER)}


def uncalled(routes: Iterable[tuple[str, str]], called: Iterable[tuple[str, str]]) -> list[str]:
    """The routes that no call has reached. A literal path goes before one with a parameter in the same place."""
    patterns = sorted(
        ((method, path, re.compile(re.sub(r"{[^}]+}", "[^/]+", path))) for method, path in routes),
        key=lambda route: route[1].count("{"),
    )
    reached = {
        next(((m, path) for m, path, pattern in patterns if m == method and pattern.fullmatch(call)), None)
        for method, call in called
    }
    return sorted(f"{method} {path}" for method, path, _ in patterns if (method, path) not in reached)
