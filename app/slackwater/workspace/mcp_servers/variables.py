"""What stands for a variable of the environment, replaced by it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from slackwater.errors import SlackwaterError
from slackwater.workspace.mcp_servers.models import McpServer
from slackwater.workspace.mcp_servers.rules import VARIABLE


class McpVariableMissing(SlackwaterError):
    """The configuration of an MCP server names a variable that is not set, or that SLACKWATER_MCP_VARIABLES does not list."""


def resolved(server: McpServer, allowed: Collection[str], environment: Mapping[str, str]) -> McpServer:
    """The server with the values of its variables. Raises McpVariableMissing."""

    def value(text: str) -> str:
        found = VARIABLE.fullmatch(text)
        if found is None:
            return text
        name = found[1]
        if name not in allowed or name not in environment:
            what = "is not set" if name in allowed else "is not listed in SLACKWATER_MCP_VARIABLES"
            raise McpVariableMissing(f"the variable {name} {what}")
        return environment[name]

    def maybe(text: str | None) -> str | None:
        return None if text is None else value(text)

    def values(texts: Mapping[str, str]) -> dict[str, str]:
        return {key: value(text) for key, text in texts.items()}

    oauth = server.oauth
    if oauth is not None and oauth.enabled:
        oauth = oauth.model_copy(
            update={
                "token_url": value(oauth.token_url),
                "client_id": maybe(oauth.client_id),
                "client_secret": maybe(oauth.client_secret),
                "refresh_token": maybe(oauth.refresh_token),
                "extra_token_params": values(oauth.extra_token_params),
            }
        )
    return server.model_copy(
        update={
            "args": [value(text) for text in server.args],
            "env": values(server.env),
            "url": maybe(server.url),
            "headers": values(server.headers),
            "oauth": oauth,
        }
    )
