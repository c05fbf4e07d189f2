"""What a configuration of MCP servers looks like, in requests and as it is kept."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Text = Annotated[str, StringConstraints(max_length=8192)]
Texts = Annotated[dict[str, Text], Field(max_length=100)]


class McpTransport(StrEnum):
    """How a server is reached."""

    STDIO = "stdio"
    """By a process of its own, which is started for it."""
    SSE = "sse"
    """By the older of both transports over HTTP."""
    HTTP = "http"
    """By Streamable HTTP."""


class McpOAuth(BaseModel):
    """How a token is fetched that a server asks for."""

    model_config = ConfigDict(extra="allow")

    enabled: bool = True
    token_url: Text = ""
    grant_type: Literal["client_credentials", "refresh_token"] = "client_credentials"
    client_id: Text | None = None
    client_secret: Text | None = None
    """In requests null keeps what there is, and an empty text clears it."""
    refresh_token: Text | None = None
    """The same."""
    scope: Text | None = None
    audience: Text | None = None
    token_field: Text = "access_token"  # noqa: S105 - no secret
    token_type_field: Text = "token_type"  # noqa: S105 - no secret
    expires_in_field: Text = "expires_in"
    default_token_type: Text = "Bearer"  # noqa: S105 - no secret
    refresh_skew_seconds: int = Field(60, ge=0, le=86_400)
    extra_token_params: Texts = Field(default_factory=dict)


class McpServer(BaseModel):
    """One server. Keys that are not named here are kept and not shown."""

    model_config = ConfigDict(extra="allow")

    enabled: bool = True
    type: McpTransport = McpTransport.STDIO
    command: Text | None = None
    """The name of an executable, for `stdio`."""
    args: Annotated[list[Text], Field(max_length=200)] = Field(default_factory=list)
    env: Texts = Field(default_factory=dict)
    """`$NAME` stands for a variable of this server's environment."""
    url: Text | None = None
    headers: Texts = Field(default_factory=dict)
    oauth: McpOAuth | None = None
    description: Text = ""
    identity: bool = False
    """Whether it is told whose run calls."""
    tool_call_timeout: Annotated[float, Field(ge=0.1, le=3600)] | None = None
    """Seconds that a call may take; null for 120."""
    revision: Annotated[str, StringConstraints(max_length=64)] | None = None
    """Which state of it somebody has seen: what they send back with their changes, so that they undo nobody else's."""

    @model_validator(mode="before")
    @classmethod
    def _http_if_only_a_url(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("url") and not value.get("command"):
            return {"type": McpTransport.HTTP, **value}
        return value


class McpConfigPut(BaseModel):
    """All servers, by name. Keys beside them are kept and not shown; null takes them away."""

    model_config = ConfigDict(extra="allow")

    mcp_servers: Annotated[dict[str, McpServer], Field(max_length=100)]

    @property
    def other(self) -> dict[str, Any]:
        """The keys beside the servers."""
        return self.model_extra or {}
