"""The rules of the configuration: who sees how much of it, and who changes it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from slackwater.identity.audit.actor import Actor
from slackwater.identity.permissions import Permission
from slackwater.identity.principal import Principal
from slackwater.workspace import as_items
from slackwater.workspace.mcp_servers import rules
from slackwater.workspace.mcp_servers.document import McpConfigChanged, McpDocument, merged
from slackwater.workspace.mcp_servers.models import McpConfigPut
from slackwater.workspace.versions import Versioned, etag_of, version_in

if TYPE_CHECKING:
    from slackwater.services import Services
    from slackwater.workspace.mcp_servers.kept import KeptMcpConfig

KIND: Final = "mcp_servers"
KEY: Final = "config"


async def get(services: Services, principal: Principal) -> Versioned:
    """The configuration as the caller may see it, and its version. Raises McpConfigUnreadable."""
    await as_items.require(services, principal, "get", KIND, KEY)
    document = await _kept(services).read()
    may = principal.may(Permission.MCP_SERVERS_MANAGE)
    return Versioned(document.shown() if may else document.outlined(), etag_of(document.version))


async def put(
    services: Services, principal: Principal, body: McpConfigPut, if_match: str | None
) -> Versioned:
    """Change it.

    Raises McpConfigChanged, McpServerUnseen, McpSecretMissing, InvalidMcpServer, McpConfigTooLarge and McpConfigUnreadable.
    """
    await as_items.require(services, principal, "put", KIND, KEY)
    check = partial(rules.check, commands=services.settings.mcp_commands, signs=services.signing is not None)
    actor, expected = Actor.of(principal), version_in(if_match, McpConfigChanged)

    def make(now: McpDocument) -> McpDocument:
        if expected not in (None, now.version):
            raise McpConfigChanged
        return merged(now, body, check, by=actor.name, replace_all=if_match is not None)

    document = await _kept(services).change(make, actor.parameters)
    return Versioned(document.shown(), etag_of(document.version))


def _kept(services: Services) -> KeptMcpConfig:
    assert services.mcp_config is not None, "these routes are there with the gateway only"
    return services.mcp_config
