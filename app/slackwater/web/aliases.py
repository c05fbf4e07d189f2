"""The other name of the gateway: its clients call `/api/langgraph/…`, which the proxies in front of them rewrite to `/api/…`, and so do we."""

from __future__ import annotations

from starlette.types import Scope

from slackwater.web.route_table import GATEWAY, GATEWAY_ALIAS


def unaliased(scope: Scope, prefix: str) -> Scope:
    """The scope of a request as if it had called the gateway by its first name. `prefix`: below what this server serves."""
    root = scope.get("root_path", "") + prefix
    path = _path(scope["path"], root)
    if path == scope["path"]:
        return scope
    raw = scope.get("raw_path")
    return {**scope, "path": path, "raw_path": raw and _path(raw.decode("latin-1"), root).encode("latin-1")}


def _path(path: str, root: str) -> str:
    alias = root + GATEWAY_ALIAS
    if path == alias or path.startswith(alias + "/"):
        return root + GATEWAY + path[len(alias) :]
    return path
