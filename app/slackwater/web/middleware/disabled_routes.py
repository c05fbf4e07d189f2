"""Groups of routes that are disabled (`http.disable_…`): they answer like routes that do not exist."""

from __future__ import annotations

from collections.abc import Collection

from starlette.types import ASGIApp, Receive, Scope, Send

from slackwater.kit.refusal import absent
from slackwater.project.http import RouteGroup
from slackwater.web.http import json_response
from slackwater.web.route_table import group_of
from slackwater.web.scope import path_of


class DisabledRoutes:
    """Behind authentication, so that only authenticated callers learn what is disabled."""

    def __init__(self, app: ASGIApp, disabled: Collection[RouteGroup]) -> None:
        self.app = app
        self.disabled = disabled

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        path = path_of(scope)
        if group_of(path) in self.disabled:
            await absent(scope, receive, send)
        elif path == "/ok" and RouteGroup.META in self.disabled:
            # Of the disabled group, only this remains: the server is up.
            await json_response({"ok": True})(scope, receive, send)
        else:
            await self.app(scope, receive, send)
