"""Serves everything below a prefix (`http.mount_prefix`)."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from slackwater.kit.refusal import absent
from slackwater.web.route_table import AT_THE_ROOT
from slackwater.web.scope import is_of_accounts, path_of


class MountPrefix:
    """Serves what is below `prefix`, and answers 404 to the rest.

    As ASGI requires, `path` is unchanged and `root_path` holds the prefix, so that URLs built by the app contain it.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self.app = app
        self.prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        path, root = path_of(scope), scope.get("root_path", "")
        if is_of_accounts(scope, path):  # where pages look for them, also if the prefix is that of `/api`
            await self.app(scope, receive, send)
            return
        if path == self.prefix:
            scope = {**scope, "path": scope["path"] + "/"}
            path += "/"
        if path.startswith(self.prefix + "/"):
            await self.app({**scope, "root_path": root + self.prefix}, receive, send)
        elif path in AT_THE_ROOT:
            await self.app(scope, receive, send)
        else:
            await absent(scope, receive, send)
