"""The application object: FastAPI whose routes are built when they are first asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from app.graphs.surface import Group

ROUTES = {
    "assistants": "app.assistants.routes",
    "threads": "app.threads.routes",
    "runs": "app.runs.routes",
    "store": "app.store.routes",
    "crons": "app.crons.routes",
    "mcp": "app.mcp.routes",
    "a2a": "app.a2a.routes",
}
"""The modules with the routes of a resource, by the part of their paths that names it."""

PROTOCOL = "app.protocol.routes"
OTHERS = "app.system.routes"

_ALSO = {".well-known": "a2a"}
"""Parts of paths that belong to a resource without naming it."""

_RUNS_OF_A_THREAD = re.compile("/threads/[^/]+/runs(/|$)")
_PROTOCOL_OF_A_THREAD = re.compile("/threads/[^/]+/(commands|stream/events)$")


def modules_for(path: str) -> set[str]:
    """The modules that hold the route of a path, if there is one."""
    if _PROTOCOL_OF_A_THREAD.search(path):
        return {PROTOCOL}
    # Any part, as a proxy's prefix may come first. Too many cost time, and nothing else.
    parts = (_ALSO.get(part, part) for part in path.split("/"))
    modules = {ROUTES[part] for part in parts if part in ROUTES}
    if _RUNS_OF_A_THREAD.search(path):
        modules.discard(ROUTES["threads"])
    return modules or {OTHERS}


def _headers_only(send: Send) -> Send:
    """For HEAD: FastAPI's GET routes, unlike Starlette's, refuse it; monitors and proxies ask so."""

    async def send_headers(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_headers


class Application(FastAPI):
    """Builds routes with the first request for their resource.

    FastAPI makes a model of every parameter: all of them take a third as long as importing FastAPI, and most environments
    of AWS Lambda are asked for one resource.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._built: set[str] = set()
        self.disabled: frozenset[Group] = frozenset()
        """Groups of routes that are switched off."""
        self.own: Starlette | None = None
        """The project's own application."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            self._build(modules_for(scope["path"]))
            if scope.get("method") == "HEAD":  # a WebSocket has none
                scope, send = {**scope, "method": "GET"}, _headers_only(send)
        await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        self.build_all()
        schema = super().openapi()
        if self.disabled:
            from app.front.switches import group_of

            paths = {
                path: item for path, item in schema["paths"].items() if group_of(path) not in self.disabled
            }
            schema = {**schema, "paths": paths}
        if not isinstance(self.own, FastAPI):
            return schema
        from app.front.describe import with_own

        return with_own(schema, self.own.openapi())

    def build_all(self) -> None:
        """Build every route."""
        self._build((OTHERS, PROTOCOL, *ROUTES.values()))

    def _build(self, modules: Iterable[str]) -> None:
        for module in modules:
            if module not in self._built:
                self._built.add(module)
                self.include_router(import_module(module).router)
