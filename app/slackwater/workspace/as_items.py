"""How the project's own `auth` is asked about what is no resource of it: as about an item of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from slackwater.identity.custom import access
from slackwater.identity.principal import Principal

if TYPE_CHECKING:
    from slackwater.services import Services

Namespace = Literal["agents", "mcp_servers", "memory", "profile", "skills"]


async def require(
    services: Services,
    principal: Principal,
    action: Literal["get", "put", "delete", "search"],
    namespace: Namespace,
    key: str = "",
) -> None:
    """Its handler may refuse it; what it changes of that does not apply. Raises RefusedByAuth.

    What is put may be decided only when it is made of what is there, and so it is not told: `value` is empty.
    """
    if principal.user is None:
        return
    value: dict[str, Any] = {"namespace": (namespace,)}
    match action:
        case "search":
            value |= {"filter": None, "query": None, "limit": 1000, "offset": 0, "refresh_ttl": None}
        case "put":
            value |= {"key": key, "value": {}, "index": None, "ttl": None}
        case "get" | "delete":
            value["key"] = key
    await access.decide(services, principal, "store", action, value)
