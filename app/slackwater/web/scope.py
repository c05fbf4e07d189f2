"""What is asked of the ASGI scope of a request, whatever stands in front."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slackwater.services import Services

OUTER = "slackwater.outer"
"""Inside a project's own application: the scope as it came, since there `state` is that application's."""


def path_of(scope: MutableMapping[str, Any]) -> str:
    """The path below the prefix: in ASGI `path` begins with `root_path`, if there is one."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and (path == root or path.startswith(root + "/")):
        return path[len(root) :] or "/"
    return path


def services_of(scope: MutableMapping[str, Any]) -> Services:
    """The services that the lifespan opened."""
    services: Services = scope.get(OUTER, scope)["state"]["services"]
    return services
