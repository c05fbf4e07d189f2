"""What a request does, and which keys allow it. `slackwater.web.route_table` says which route needs which permission."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from slackwater.identity.scopes import KeyScope


class Permission(StrEnum):
    """A resource, and what is done to it. Whose it may be done to is the queries' affair: they filter by owner."""

    ASSISTANTS_READ = "assistants:read"
    ASSISTANTS_WRITE = "assistants:write"
    ASSISTANTS_DELETE = "assistants:delete"
    THREADS_READ = "threads:read"
    """Their states, histories and events, too."""
    THREADS_WRITE = "threads:write"
    """Their states, too."""
    THREADS_DELETE = "threads:delete"
    RUNS_READ = "runs:read"
    RUNS_CREATE = "runs:create"
    """However a run is asked for: by a route, a command of protocol v2, MCP or A2A. Who may do that may also cancel it."""
    RUNS_CANCEL = "runs:cancel"
    RUNS_DELETE = "runs:delete"
    CRONS_READ = "crons:read"
    CRONS_WRITE = "crons:write"
    CRONS_DELETE = "crons:delete"
    STORE_READ = "store:read"
    STORE_WRITE = "store:write"
    STORE_DELETE = "store:delete"
    MODELS_READ = "models:read"
    """Their names and abilities."""
    SKILLS_READ = "skills:read"
    """Public ones, and one's own."""
    SKILLS_WRITE = "skills:write"
    SKILLS_DELETE = "skills:delete"
    SKILLS_MANAGE = "skills:manage"
    """Which public ones are on for everybody."""
    AGENTS_READ = "agents:read"
    """One's own, and what one says of oneself to them."""
    AGENTS_WRITE = "agents:write"
    AGENTS_DELETE = "agents:delete"
    CHANNELS_READ = "channels:read"
    """Which there are."""
    CHANNELS_MANAGE = "channels:manage"
    MCP_SERVERS_READ = "mcp_servers:read"
    """Which servers there are that graphs have tools of."""
    MCP_SERVERS_MANAGE = "mcp_servers:manage"
    APP_READ = "app:read"
    """GET on routes of the project's own application."""
    APP_WRITE = "app:write"
    """Any other method there, and its WebSockets."""
    METRICS_READ = "metrics:read"
    """Sums over all owners."""
    ACCOUNT_READ = "account:read"
    """One's own account, and its sessions."""
    ACCOUNT_WRITE = "account:write"
    ACCOUNTS_MANAGE = "accounts:manage"
    """Those of everybody."""

    @property
    def resource(self) -> str:
        return self.value.partition(":")[0]

    @property
    def action(self) -> str:
        return self.value.partition(":")[2]


def scope_for(permission: Permission) -> KeyScope:
    """The least scope that grants a permission. Those that include it grant it, too."""
    if permission.resource == "metrics":
        return KeyScope.METRICS
    if permission.action == "manage":
        return KeyScope.ADMIN
    return KeyScope.READ if permission.action == "read" else KeyScope.RUN


NEEDED: Mapping[Permission, KeyScope] = {permission: scope_for(permission) for permission in Permission}
"""The scope that each permission needs."""
