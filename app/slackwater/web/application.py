"""The application: FastAPI whose routes are built on first use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slackwater.web import route_table
from slackwater.web.aliases import unaliased
from slackwater.web.proxies import believe
from slackwater.web.refused import counting
from slackwater.web.route_table import (
    MODULES,
    OPTIONAL,
    WEBSOCKET,
    Feature,
    RouteWithoutRule,
    group_of,
    require_rule,
)
from slackwater.web.security_headers import secured

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from slackwater.project.http import RouteGroup


_FEATURES = {MODULES[resource]: feature for resource, feature in OPTIONAL.items()}
"""The modules that belong to a feature."""


def methods_and_path(route: BaseRoute) -> tuple[set[str], str]:
    """By what a route is asked for, in the words of the route table. Raises RouteWithoutRule if it is none that this knows."""
    match route:
        case WebSocketRoute():
            return {WEBSOCKET}, route.path_format
        case Route():
            return set(route.methods or ()) - {"HEAD"}, route.path_format
    raise RouteWithoutRule(f"{route}: the table has no rules for such a route.")


def _headers_only(send: Send) -> Send:
    """For HEAD, which monitors and proxies send: FastAPI's GET routes, unlike Starlette's, refuse it."""

    async def send_headers(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_headers


class Application(FastAPI):
    """Builds the routes of a resource with the first request for it.

    FastAPI builds a model of every parameter. All of them together take a third as long as importing FastAPI, and most AWS
    Lambda environments serve a single resource.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.features: frozenset[Feature] | None = None
        """What it has of what not every server has; None: it has not started, and nobody has said so yet."""
        self._built: set[str] = set()
        self._complete_at = len(self._wanted(MODULES.values()))
        """How many modules are built when all are that it serves."""
        self.disabled: frozenset[RouteGroup] = frozenset()
        """Groups of routes that are disabled."""
        self.custom_app: Starlette | None = None
        """The project's custom app."""
        self.mount_prefix = ""
        """Below what it serves."""
        self.own_security: Mapping[str, Any] = {}
        """`auth.openapi` of the project's `langgraph.json`."""
        self._documents: dict[tuple[frozenset[RouteGroup], frozenset[Feature] | None], dict[str, Any]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            if self.features and Feature.GATEWAY in self.features:
                scope = unaliased(scope, self.mount_prefix)
            self._build_for(scope)
            believe(scope, receive)
            send = counting(scope, secured(scope, send))
            if scope.get("method") == "HEAD":  # a WebSocket has none
                scope, send = {**scope, "method": "GET"}, _headers_only(send)
        await super().__call__(scope, receive, send)

    def behind_the_middleware(self) -> ASGIApp:
        """The API alone, for requests that come from this process and have their principal."""
        bare = copy(self)
        bare.user_middleware = []
        stack = bare.build_middleware_stack()

        async def api(scope: Scope, receive: Receive, send: Send) -> None:
            self._build_for(scope)
            scope["app"] = self
            await stack(scope, receive, send)

        return api

    def openapi(self) -> dict[str, Any]:
        wanted = self.disabled, self.features
        if wanted not in self._documents:
            self.build_all()
            if self.features is None:  # it describes all that there may be
                self._build(_FEATURES)
            self._documents[wanted] = self._complete(super().openapi())
        document = self._documents[wanted]
        if self.features and Feature.ACCOUNTS in self.features:
            from slackwater.web.openapi.merge import with_sessions

            document = with_sessions(document)
        if self.own_security:
            from slackwater.web.openapi.merge import secured

            document = secured(document, self.own_security)
        if not isinstance(self.custom_app, FastAPI):
            return document
        from slackwater.web.openapi.merge import merge

        return merge(document, self.custom_app.openapi())

    @staticmethod
    def resources() -> dict[str, str]:
        """The modules that describe the routes of each resource, by its name."""
        return {name: f"{module.rpartition('.')[0]}.openapi" for name, module in MODULES.items()}

    def _complete(self, document: dict[str, Any]) -> dict[str, Any]:
        """FastAPI's document, completed by the description of each resource, without disabled routes."""
        from slackwater.web.openapi.document import complete

        if self.disabled:
            paths = {
                path: item for path, item in document["paths"].items() if group_of(path) not in self.disabled
            }
            document = {**document, "paths": paths}
        modules = {name: import_module(module) for name, module in self.resources().items()}
        return complete(
            document,
            {route: shown for module in modules.values() for route, shown in module.OPERATIONS.items()},
            {name: module.TAG for name, module in modules.items()},
        )

    def methods_of(self, path: str) -> list[str]:
        """The methods allowed for a path: for `/threads/search` not those of `/threads/{thread_id}`."""
        found = [
            route
            for module in self._built
            for route in import_module(module).router.routes
            if isinstance(route, APIRoute) and route.include_in_schema and route.path_regex.match(path)
        ]
        fewest = min((len(route.param_convertors) for route in found), default=0)
        return sorted(
            {m for route in found if len(route.param_convertors) == fewest for m in route.methods or ()}
        )

    def build_all(self) -> None:
        """Build every route, and first those that are asked for most: they are tried in this order."""
        self._build(self._wanted((*(MODULES[name] for name in route_table.FIRST), *MODULES.values())))

    def serve(self, features: Iterable[Feature]) -> None:
        """Say which features there are, whose routes are built only then."""
        self.features = frozenset(features)
        self._complete_at = len(self._wanted(MODULES.values()))
        if self.features and self._built:
            self.build_all()

    def _wanted(self, modules: Iterable[str]) -> list[str]:
        features = self.features or ()
        return [module for module in modules if module not in _FEATURES or _FEATURES[module] in features]

    def _build_for(self, scope: Scope) -> None:
        if len(self._built) < self._complete_at:
            self._build(self._wanted(route_table.modules_for(scope["path"])))

    def _build(self, modules: Iterable[str]) -> None:
        for module in modules:
            if module not in self._built:
                routes = import_module(module).router.routes
                for methods, path in map(methods_and_path, routes):
                    for method in methods:
                        require_rule(method, path)
                self._built.add(module)
                # Not included: FastAPI tries every route of an included router, and then all of them once more.
                self.router.routes += routes
