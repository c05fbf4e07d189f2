"""What the routes of MCP servers answer."""

from __future__ import annotations

from collections.abc import Mapping

from slackwater.web.openapi.pieces import Operation, Response, Shape, header
from slackwater.workspace.mcp_servers.document import McpConfigChanged, McpServerUnseen
from slackwater.workspace.mcp_servers.kept import McpConfigTooLarge, McpConfigUnreadable
from slackwater.workspace.mcp_servers.rules import InvalidMcpServer
from slackwater.workspace.mcp_servers.secrets import McpSecretMissing

TAG = "MCP servers that graphs have tools of."


class McpOAuthShown(Shape):
    """How a token is fetched."""

    enabled: bool
    token_url: str
    """Values of its query are `***`."""
    grant_type: str
    client_id: str | None
    client_secret: None
    """Never shown."""
    refresh_token: None
    """Never shown."""
    scope: str | None
    audience: str | None
    token_field: str
    token_type_field: str
    expires_in_field: str
    default_token_type: str
    refresh_skew_seconds: int
    extra_token_params: dict[str, str]


class McpServerShown(Shape):
    """A server. Values of `env` and `headers` are `***`."""

    enabled: bool
    type: str
    """`stdio`, `sse` or `http`."""
    command: str | None
    args: list[str]
    env: dict[str, str]
    url: str | None
    """Values of its query are `***`."""
    headers: dict[str, str]
    oauth: McpOAuthShown | None
    description: str
    identity: bool = False
    """Whether it is told whose run calls."""
    tool_call_timeout: float = 120
    """Seconds."""
    revision: str = ""
    """To be sent back with it."""


class McpConfigShown(Shape):
    """By name."""

    mcp_servers: dict[str, McpServerShown]


_SERVER = {
    "enabled": True,
    "type": "http",
    "command": None,
    "args": [],
    "env": {},
    "url": "https://mcp.example.com/mcp",
    "headers": {"Authorization": "***"},
    "oauth": None,
    "description": "Weather",
    "revision": "7-0f343b0931126a20",
}
_ETAG = {"ETag": header("Which version this is: what `If-Match` is for.", example='"7"')}
_CONFIG = Response("The servers.", McpConfigShown, {"mcp_servers": {"weather": _SERVER}}, headers=_ETAG)
_SWITCHED = {"mcp_servers": {"weather": {**_SERVER, "enabled": False}}}
_NEW = {
    "mcp_servers": {
        "weather": {
            "type": "http",
            "url": "https://mcp.example.com/mcp",
            "headers": {"Authorization": "$WEATHER_TOKEN"},
        }
    }
}

OPERATIONS: Mapping[str, Operation] = {
    "GET /api/mcp/config": Operation(
        id="get_mcp_config", responses={200: _CONFIG}, errors=(McpConfigUnreadable,)
    ),
    "PUT /api/mcp/config": Operation(
        id="put_mcp_config",
        responses={200: _CONFIG},
        bodies={"a new server": _NEW, "one switched off": _SWITCHED},
        errors=(
            InvalidMcpServer,
            McpSecretMissing,
            McpConfigChanged,
            McpServerUnseen,
            McpConfigTooLarge,
            McpConfigUnreadable,
        ),
    ),
}
