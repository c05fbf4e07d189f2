"""Values from the ASGI scope of a request, whichever middleware it has passed."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from slackwater.kit.reserved import clean_headers
from slackwater.web.route_table import ACCOUNTS, CHANNELS, Feature

if TYPE_CHECKING:
    from slackwater.services import Services

_BELOW_ACCOUNTS = f"{ACCOUNTS}/"
_BELOW_CHANNELS = f"{CHANNELS}/"

OUTER = "slackwater.outer"
"""Inside a custom app: the original scope. The custom app has a `state` of its own."""


def path_of(scope: MutableMapping[str, Any]) -> str:
    """The path below the mount prefix. In ASGI, `path` includes `root_path`."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and (path == root or path.startswith(root + "/")):
        return path[len(root) :] or "/"
    return path


def is_of_accounts(scope: MutableMapping[str, Any], path: str) -> bool:
    """Whether a path is one of the routes of accounts, which not every server has."""
    if not path.startswith(_BELOW_ACCOUNTS):
        return False
    # A server that skips the lifespan leaves us without services.
    services = scope.get(OUTER, scope).get("state", {}).get("services")
    return services is not None and services.accounts is not None


def is_of_channels(scope: MutableMapping[str, Any], path: str) -> bool:
    """Whether a path is one of the routes of channels, which not every server has."""
    if not path.startswith(_BELOW_CHANNELS):
        return False
    services = scope.get(OUTER, scope).get("state", {}).get("services")
    return services is not None and Feature.GATEWAY in services.features


def services_of(scope: MutableMapping[str, Any]) -> Services:
    """The services that the lifespan opened."""
    services: Services = scope.get(OUTER, scope)["state"]["services"]
    return services


def headers_for_graphs(scope: MutableMapping[str, Any]) -> dict[str, str]:
    """The request's headers that graphs get to see in `configurable` (`http.configurable_headers`)."""
    wanted = services_of(scope).graphs.http.configurable_headers
    return clean_headers(wanted.pick(scope["headers"])) if wanted else {}
