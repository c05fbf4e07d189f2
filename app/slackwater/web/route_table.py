"""What is known of the API's routes before they are built: path, resource, group, and the permission that each needs.

Routes are built with the first request for their module. Middleware in front of them decides by this table, and a route
that is not in it is not built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from slackwater.identity.permissions import Permission as P
from slackwater.project.http import RouteGroup

MODULES = {
    "assistants": "slackwater.api.assistants.routes",
    "threads": "slackwater.api.threads.routes",
    "runs": "slackwater.api.runs.routes",
    "store": "slackwater.api.store.routes",
    "crons": "slackwater.api.crons.routes",
    "accounts": "slackwater.api.accounts.routes",
    "mcp": "slackwater.protocols.mcp.routes",
    "a2a": "slackwater.protocols.a2a.routes",
    "protocol": "slackwater.protocols.events.routes",
    "llm_models": "slackwater.workspace.llm_models.routes",
    "files": "slackwater.workspace.files.routes",
    "suggestions": "slackwater.workspace.suggestions.routes",
    "dialect": "slackwater.dialect.routes",
    "messages": "slackwater.workspace.messages.routes",
    "usage": "slackwater.workspace.usage.routes",
    "feedback": "slackwater.workspace.feedback.routes",
    "memory": "slackwater.workspace.memory.routes",
    "skills": "slackwater.workspace.skills.routes",
    "agents": "slackwater.workspace.agents.routes",
    "channels": "slackwater.channels.routes",
    "mcp_servers": "slackwater.workspace.mcp_servers.routes",
    "system": "slackwater.api.system.routes",
}
"""The module with the routes of each resource. Whatever has no module, including FastAPI's own `/openapi.json`, belongs to `system`."""


class Feature(StrEnum):
    """What not every server has."""

    ACCOUNTS = "accounts"
    """People log in: SLACKWATER_ACCOUNTS."""
    GATEWAY = "gateway"
    """The routes and the dialect below `/api`: SLACKWATER_GATEWAY."""


OPTIONAL: Mapping[str, Feature] = {
    "accounts": Feature.ACCOUNTS,
    "llm_models": Feature.GATEWAY,
    "files": Feature.GATEWAY,
    "suggestions": Feature.GATEWAY,
    "dialect": Feature.GATEWAY,
    "messages": Feature.GATEWAY,
    "usage": Feature.GATEWAY,
    "feedback": Feature.GATEWAY,
    "memory": Feature.GATEWAY,
    "skills": Feature.GATEWAY,
    "agents": Feature.GATEWAY,
    "channels": Feature.GATEWAY,
    "mcp_servers": Feature.GATEWAY,
}
"""The resources that belong to a feature."""

FIRST = ("runs", "threads")
"""The most requested resources: a router tries its routes in order."""

FIXED = frozenset({"batch", "cancel", "checkpoint", "count", "crons", "prune", "search", "stream", "wait"})
"""Last segments of paths that are not ids, although there are routes with an id in that place."""


WEBSOCKET = "WEBSOCKET"
"""Stands for the method where a WebSocket is opened."""


class RouteWithoutRule(Exception):
    """The table does not say what this route needs: add it to `slackwater.web.route_table`."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The routes of a path, and what each of them needs."""

    path: str
    """`*` matches one segment; a final `/**` any number of segments, including none."""
    resource: str = "system"
    group: RouteGroup | None = None
    """The group that they can be disabled with; None if they cannot."""
    get: P | None = None
    post: P | None = None
    put: P | None = None
    patch: P | None = None
    delete: P | None = None
    websocket: P | None = None
    public: bool = False
    """Served without authentication: they reveal nothing about anyone's data."""
    probe: bool = False
    """A liveness or readiness probe: a custom app cannot override it."""
    reserved: bool = False
    """A custom app cannot override it, unless its group is disabled."""
    at_the_root: bool = False
    """Also served without the mount prefix, where load balancers and platforms expect it."""
    when_closed: bool = False
    """Served even while runs are settled: it reports what a stop did."""
    needs: Mapping[str, P] = field(init=False, repr=False, compare=False)
    """What each method needs. A route of a method that is not here cannot be built, unless the path is public."""

    def __post_init__(self) -> None:
        said = {
            "GET": self.get,
            "POST": self.post,
            "PUT": self.put,
            "PATCH": self.patch,
            "DELETE": self.delete,
            WEBSOCKET: self.websocket,
        }
        needs = {method: permission for method, permission in said.items() if permission is not None}
        object.__setattr__(self, "needs", needs)

    @property
    def parts(self) -> list[str]:
        """The segments of the path, without the final `/**`."""
        return parts_of(self.path.removesuffix("/**"))


def parts_of(path: str) -> list[str]:
    """The segments of a path; those of `/` are one that is empty."""
    return path.strip("/").split("/")


TABLE = (
    Entry("/ok", public=True, probe=True, at_the_root=True),
    Entry("/ready", public=True, probe=True, at_the_root=True),
    Entry("/health", public=True, probe=True, at_the_root=True),
    Entry("/", group=RouteGroup.META, public=True, at_the_root=True),
    Entry("/info", group=RouteGroup.META, public=True),
    Entry("/docs", group=RouteGroup.META, public=True, reserved=True),
    Entry("/docs/oauth2-redirect", group=RouteGroup.META, public=True, reserved=True),
    Entry("/docs/swagger-ui.css", group=RouteGroup.META, public=True, reserved=True),
    Entry("/docs/swagger-ui-bundle.js", group=RouteGroup.META, public=True, reserved=True),
    Entry("/docs/oauth2-redirect.js", group=RouteGroup.META, public=True, reserved=True),
    Entry("/docs/start.js", group=RouteGroup.META, public=True, reserved=True),
    Entry("/openapi.json", group=RouteGroup.META, public=True, reserved=True),
    Entry(
        "/metrics",
        group=RouteGroup.META,
        get=P.METRICS_READ,
        reserved=True,
        at_the_root=True,
        when_closed=True,
    ),
    Entry("/assistants", "assistants", RouteGroup.ASSISTANTS, post=P.ASSISTANTS_WRITE),
    Entry("/assistants/search", "assistants", RouteGroup.ASSISTANTS, post=P.ASSISTANTS_READ),
    Entry("/assistants/count", "assistants", RouteGroup.ASSISTANTS, post=P.ASSISTANTS_READ),
    Entry(
        "/assistants/*",
        "assistants",
        RouteGroup.ASSISTANTS,
        get=P.ASSISTANTS_READ,
        patch=P.ASSISTANTS_WRITE,
        delete=P.ASSISTANTS_DELETE,
    ),
    Entry("/assistants/*/versions", "assistants", RouteGroup.ASSISTANTS, post=P.ASSISTANTS_READ),
    Entry("/assistants/*/latest", "assistants", RouteGroup.ASSISTANTS, post=P.ASSISTANTS_WRITE),
    Entry("/assistants/*/graph", "assistants", RouteGroup.ASSISTANTS, get=P.ASSISTANTS_READ),
    Entry("/assistants/*/schemas", "assistants", RouteGroup.ASSISTANTS, get=P.ASSISTANTS_READ),
    Entry("/assistants/*/subgraphs", "assistants", RouteGroup.ASSISTANTS, get=P.ASSISTANTS_READ),
    Entry("/assistants/*/subgraphs/*", "assistants", RouteGroup.ASSISTANTS, get=P.ASSISTANTS_READ),
    Entry("/threads", "threads", RouteGroup.THREADS, post=P.THREADS_WRITE),
    Entry("/threads/search", "threads", RouteGroup.THREADS, post=P.THREADS_READ),
    Entry("/threads/count", "threads", RouteGroup.THREADS, post=P.THREADS_READ),
    Entry("/threads/prune", "threads", RouteGroup.THREADS, post=P.THREADS_DELETE),
    Entry(
        "/threads/*",
        "threads",
        RouteGroup.THREADS,
        get=P.THREADS_READ,
        patch=P.THREADS_WRITE,
        delete=P.THREADS_DELETE,
    ),
    Entry("/threads/*/storage", "threads", RouteGroup.THREADS, get=P.THREADS_READ),
    Entry("/threads/*/copy", "threads", RouteGroup.THREADS, post=P.THREADS_WRITE),
    Entry("/threads/*/stream", "threads", RouteGroup.THREADS, get=P.THREADS_READ),
    Entry("/threads/*/state", "threads", RouteGroup.THREADS, get=P.THREADS_READ, post=P.THREADS_WRITE),
    Entry("/threads/*/state/*", "threads", RouteGroup.THREADS, get=P.THREADS_READ),
    Entry("/threads/*/state/checkpoint", "threads", RouteGroup.THREADS, post=P.THREADS_READ),
    Entry("/threads/*/history", "threads", RouteGroup.THREADS, get=P.THREADS_READ, post=P.THREADS_READ),
    Entry("/threads/*/commands", "protocol", RouteGroup.EVENT_STREAMING, post=P.RUNS_CREATE),
    Entry(
        "/threads/*/stream/events",
        "protocol",
        RouteGroup.EVENT_STREAMING,
        get=P.THREADS_READ,
        post=P.THREADS_READ,
        websocket=P.RUNS_CREATE,  # commands arrive by it, too
    ),
    Entry("/threads/*/runs", "runs", RouteGroup.RUNS, get=P.RUNS_READ, post=P.RUNS_CREATE),
    Entry("/threads/*/runs/stream", "runs", RouteGroup.RUNS, post=P.RUNS_CREATE),
    Entry("/threads/*/runs/wait", "runs", RouteGroup.RUNS, post=P.RUNS_CREATE),
    Entry("/threads/*/runs/crons", "crons", RouteGroup.CRONS, post=P.CRONS_WRITE),
    Entry("/threads/*/runs/*", "runs", RouteGroup.RUNS, get=P.RUNS_READ, delete=P.RUNS_DELETE),
    Entry("/threads/*/runs/*/cancel", "runs", RouteGroup.RUNS, post=P.RUNS_CANCEL),
    Entry("/threads/*/runs/*/join", "runs", RouteGroup.RUNS, get=P.RUNS_READ),
    Entry("/threads/*/runs/*/stream", "runs", RouteGroup.RUNS, get=P.RUNS_READ),
    Entry("/runs", "runs", RouteGroup.RUNS, post=P.RUNS_CREATE),
    Entry("/runs/stream", "runs", RouteGroup.RUNS, post=P.RUNS_CREATE),
    Entry("/runs/wait", "runs", RouteGroup.RUNS, post=P.RUNS_CREATE),
    Entry("/runs/batch", "runs", RouteGroup.RUNS, post=P.RUNS_CREATE),
    Entry("/runs/cancel", "runs", RouteGroup.RUNS, post=P.RUNS_CANCEL),
    Entry("/runs/crons", "crons", RouteGroup.CRONS, post=P.CRONS_WRITE),
    Entry("/runs/crons/search", "crons", RouteGroup.CRONS, post=P.CRONS_READ),
    Entry("/runs/crons/count", "crons", RouteGroup.CRONS, post=P.CRONS_READ),
    Entry(
        "/runs/crons/*",
        "crons",
        RouteGroup.CRONS,
        get=P.CRONS_READ,
        patch=P.CRONS_WRITE,
        delete=P.CRONS_DELETE,
    ),
    Entry(
        "/store/items",
        "store",
        RouteGroup.STORE,
        get=P.STORE_READ,
        put=P.STORE_WRITE,
        delete=P.STORE_DELETE,
    ),
    Entry("/store/items/search", "store", RouteGroup.STORE, post=P.STORE_READ),
    Entry("/store/namespaces", "store", RouteGroup.STORE, post=P.STORE_READ),
    Entry("/mcp", "mcp", RouteGroup.MCP, get=P.RUNS_READ, post=P.RUNS_CREATE, delete=P.RUNS_CREATE),
    Entry("/a2a/*", "a2a", RouteGroup.A2A, get=P.ASSISTANTS_READ, post=P.RUNS_CREATE),
    Entry("/a2a/*/.well-known/agent-card.json", "a2a", RouteGroup.A2A, get=P.ASSISTANTS_READ),
    Entry("/a2a/*/.well-known/agent.json", "a2a", RouteGroup.A2A, get=P.ASSISTANTS_READ),
    Entry("/.well-known/agent-card.json", "a2a", RouteGroup.A2A, get=P.ASSISTANTS_READ),
    Entry("/api/v1/auth/setup-status", "accounts", public=True),
    Entry("/api/v1/auth/setup", "accounts", public=True),
    Entry("/api/v1/auth/initialize", "accounts", public=True),
    Entry("/api/v1/auth/register", "accounts", public=True),
    Entry("/api/v1/auth/login/local", "accounts", public=True),
    Entry("/api/v1/auth/token", "accounts", public=True),
    Entry("/api/v1/auth/logout", "accounts", public=True),
    Entry("/api/v1/auth/oauth/*", "accounts", public=True),
    Entry("/api/v1/auth/oauth/*/link", "accounts", post=P.ACCOUNT_WRITE),
    Entry("/api/v1/auth/callback/*", "accounts", public=True),
    Entry("/api/v1/auth/me", "accounts", get=P.ACCOUNT_READ),
    Entry("/api/v1/auth/change-password", "accounts", post=P.ACCOUNT_WRITE),
    Entry("/api/v1/auth/sessions", "accounts", get=P.ACCOUNT_READ),
    Entry("/api/v1/auth/sessions/*", "accounts", delete=P.ACCOUNT_WRITE),
    Entry("/api/v1/auth/users", "accounts", get=P.ACCOUNTS_MANAGE),
    Entry("/api/v1/auth/users/*", "accounts", patch=P.ACCOUNTS_MANAGE),
    Entry("/api/threads/*/uploads", "files", post=P.THREADS_WRITE),
    Entry("/api/threads/*/uploads/limits", "files", get=P.THREADS_READ),
    Entry("/api/threads/*/uploads/list", "files", get=P.THREADS_READ),
    Entry("/api/threads/*/uploads/presign", "files", post=P.THREADS_WRITE),
    Entry("/api/threads/*/uploads/complete", "files", post=P.THREADS_WRITE),
    Entry("/api/threads/*/uploads/*", "files", delete=P.THREADS_DELETE),
    Entry("/api/threads/*/artifacts/**", "files", get=P.THREADS_READ),
    Entry("/api/models", "llm_models", get=P.MODELS_READ),
    Entry("/api/models/*", "llm_models", get=P.MODELS_READ),
    Entry("/api/threads/*/suggestions", "suggestions", post=P.RUNS_CREATE),
    Entry("/api/threads", "dialect", RouteGroup.THREADS, post=P.THREADS_WRITE),
    Entry("/api/threads/search", "dialect", RouteGroup.THREADS, post=P.THREADS_READ),
    Entry(
        "/api/threads/*",
        "dialect",
        RouteGroup.THREADS,
        get=P.THREADS_READ,
        patch=P.THREADS_WRITE,
        delete=P.THREADS_DELETE,
    ),
    Entry("/api/threads/*/state", "dialect", RouteGroup.THREADS, get=P.THREADS_READ, post=P.THREADS_WRITE),
    Entry("/api/threads/*/history", "dialect", RouteGroup.THREADS, post=P.THREADS_READ),
    Entry("/api/threads/*/runs", "dialect", RouteGroup.RUNS, get=P.RUNS_READ, post=P.RUNS_CREATE),
    Entry("/api/threads/*/runs/stream", "dialect", RouteGroup.RUNS, post=P.RUNS_CREATE),
    Entry("/api/threads/*/runs/wait", "dialect", RouteGroup.RUNS, post=P.RUNS_CREATE),
    Entry("/api/threads/*/runs/*", "dialect", RouteGroup.RUNS, get=P.RUNS_READ),
    Entry("/api/threads/*/runs/*/cancel", "dialect", RouteGroup.RUNS, post=P.RUNS_CANCEL),
    Entry("/api/threads/*/runs/*/join", "dialect", RouteGroup.RUNS, get=P.RUNS_READ),
    # With `action` it cancels, and asks for the permission itself.
    Entry("/api/threads/*/runs/*/stream", "dialect", RouteGroup.RUNS, get=P.RUNS_READ, post=P.RUNS_READ),
    Entry("/api/runs/stream", "dialect", RouteGroup.RUNS, post=P.RUNS_CREATE),
    Entry("/api/runs/wait", "dialect", RouteGroup.RUNS, post=P.RUNS_CREATE),
    Entry("/api/assistants/search", "dialect", RouteGroup.ASSISTANTS, post=P.ASSISTANTS_READ),
    Entry("/api/assistants/*", "dialect", RouteGroup.ASSISTANTS, get=P.ASSISTANTS_READ),
    Entry("/api/assistants/*/graph", "dialect", RouteGroup.ASSISTANTS, get=P.ASSISTANTS_READ),
    Entry("/api/assistants/*/schemas", "dialect", RouteGroup.ASSISTANTS, get=P.ASSISTANTS_READ),
    Entry("/api/threads/*/messages", "messages", get=P.RUNS_READ),
    Entry("/api/threads/*/runs/*/messages", "messages", get=P.RUNS_READ),
    Entry("/api/threads/*/runs/*/events", "messages", get=P.RUNS_READ),
    Entry("/api/runs/*/messages", "messages", get=P.RUNS_READ),
    Entry("/api/threads/*/token-usage", "usage", get=P.THREADS_READ),
    Entry("/api/usage", "usage", get=P.RUNS_READ),
    Entry(
        "/api/threads/*/runs/*/feedback",
        "feedback",
        get=P.THREADS_READ,
        put=P.THREADS_WRITE,
        post=P.THREADS_WRITE,
        delete=P.THREADS_DELETE,
    ),
    Entry("/api/threads/*/runs/*/feedback/stats", "feedback", get=P.THREADS_READ),
    Entry("/api/threads/*/runs/*/feedback/*", "feedback", delete=P.THREADS_DELETE),
    Entry("/api/runs/*/feedback", "feedback", get=P.RUNS_READ),
    Entry("/api/memory", "memory", get=P.STORE_READ, delete=P.STORE_DELETE),
    Entry("/api/memory/reload", "memory", post=P.STORE_READ),
    Entry("/api/memory/export", "memory", get=P.STORE_READ),
    Entry("/api/memory/import", "memory", post=P.STORE_WRITE),
    Entry("/api/memory/config", "memory", get=P.STORE_READ),
    Entry("/api/memory/status", "memory", get=P.STORE_READ),
    Entry("/api/memory/facts", "memory", post=P.STORE_WRITE),
    Entry("/api/memory/facts/*", "memory", patch=P.STORE_WRITE, delete=P.STORE_DELETE),
    Entry("/api/skills", "skills", get=P.SKILLS_READ),
    Entry("/api/skills/install", "skills", post=P.SKILLS_WRITE),
    # For everybody it asks for `skills:manage` itself.
    Entry("/api/skills/*", "skills", get=P.SKILLS_READ, put=P.SKILLS_WRITE),
    Entry("/api/skills/custom", "skills", get=P.SKILLS_READ),
    Entry("/api/skills/custom/*", "skills", get=P.SKILLS_READ, put=P.SKILLS_WRITE, delete=P.SKILLS_DELETE),
    Entry("/api/skills/custom/*/history", "skills", get=P.SKILLS_READ),
    Entry("/api/skills/custom/*/rollback", "skills", post=P.SKILLS_WRITE),
    Entry("/api/agents", "agents", get=P.AGENTS_READ, post=P.AGENTS_WRITE),
    Entry("/api/agents/check", "agents", get=P.AGENTS_READ),
    Entry("/api/agents/*", "agents", get=P.AGENTS_READ, put=P.AGENTS_WRITE, delete=P.AGENTS_DELETE),
    Entry("/api/user-profile", "agents", get=P.AGENTS_READ, put=P.AGENTS_WRITE),
    Entry("/api/channels", "channels", get=P.CHANNELS_READ),
    # Whoever sends something signs it.
    Entry("/api/channels/*/webhook", "channels", RouteGroup.RUNS, public=True),
    Entry("/api/channels/*/restart", "channels", post=P.CHANNELS_MANAGE),
    # Who may not change it reads less of it.
    Entry("/api/mcp/config", "mcp_servers", get=P.MCP_SERVERS_READ, put=P.MCP_SERVERS_MANAGE),
    Entry("/ui/**", group=RouteGroup.UI),
)

GATEWAY = "/api"
"""Below it are the routes of the gateway, on servers that have it."""

GATEWAY_ALIAS = "/api/langgraph"
"""By this name its clients call the dialect: their proxies rewrite it, and so does this server."""

ACCOUNTS = "/api/v1/auth"
"""Below it are the routes of accounts, on servers that have some. There the table says nothing where they have none."""

CHANNELS = "/api/channels"
"""Below it are the routes of channels, on servers that have the gateway."""

PUBLIC = frozenset(entry.path for entry in TABLE if entry.public and entry.resource not in OPTIONAL)
PROBES = frozenset(entry.path for entry in TABLE if entry.probe)
RESERVED = PROBES | {entry.path for entry in TABLE if entry.reserved}
AT_THE_ROOT = frozenset(entry.path for entry in TABLE if entry.at_the_root)
WHEN_CLOSED = frozenset(entry.path for entry in TABLE if entry.when_closed)

_SYSTEM = frozenset({MODULES["system"]})


class _Node:
    """A segment of the paths in the table, and what may follow it."""

    __slots__ = ("entry", "following", "open")

    def __init__(self) -> None:
        self.following: dict[str, _Node] = {}
        self.entry: Entry | None = None
        """That of the path which ends here."""
        self.open: Entry | None = None
        """That of every path which goes on from here."""


def _tree() -> _Node:
    root = _Node()
    for entry in TABLE:
        node = root
        for part in entry.parts:
            node = node.following.setdefault(part, _Node())
        if entry.path.endswith("/**"):
            node.open = entry
        else:
            node.entry = entry
    return root


_ROOT = _tree()


def _find(parts: Sequence[str], method: str | None = None, node: _Node = _ROOT) -> Entry | None:
    """The entry that says most of a path, of those that have the method: so does FastAPI choose among routes."""
    if parts:
        for name in (parts[0], "*"):
            following = node.following.get(name)
            if following is not None and (found := _find(parts[1:], method, following)) is not None:
                return found
    elif node.entry is not None and (method is None or method in node.entry.needs):
        return node.entry
    return node.open


def entry_of(path: str) -> Entry | None:
    """The entry for a path without prefixes; None if there is no such route."""
    return _find(parts_of(path))


def permission_of(method: str, path: str) -> P | None:
    """What the route of a path needs; None if there is none with that method, or if it is public. `method` may be WEBSOCKET."""
    entry = _find(parts_of(path), method)
    return entry.needs.get(method) if entry is not None else None


def require_rule(method: str, path: str) -> None:
    """Raises RouteWithoutRule."""
    public = path in PUBLIC or is_public_account(path) or is_public_channel(path)
    if permission_of(method, path) is None and not public:
        raise RouteWithoutRule(f"{method} {path}: {RouteWithoutRule.__doc__}")


def is_public_account(path: str) -> bool:
    """Whether a path is one of the routes of accounts for whoever has not logged in yet."""
    entry = entry_of(path.rstrip("/"))
    return entry is not None and entry.public and entry.resource == "accounts"


def is_public_channel(path: str) -> bool:
    """Whether a path is the route of a channel for what comes in by it, which its sender signs."""
    entry = entry_of(path)
    return entry is not None and entry.public and entry.resource == "channels"


def group_of(path: str) -> RouteGroup | None:
    """The group of a route, by its path; None if it cannot be disabled."""
    entry = entry_of(path)
    return entry.group if entry is not None else None


def modules_for(path: str) -> frozenset[str]:
    """The modules that may contain the route of a path."""
    parts = parts_of(path)
    found: set[str] = set()
    # From any segment on, as a proxy's prefix may come first. Too many modules only cost time.
    for at in range(len(parts)):
        if (entry := _find(parts[at:])) is not None and entry.resource != "system":
            found.add(MODULES[entry.resource])
            if entry.resource == "crons":
                found.add(MODULES["runs"])  # whose ids may have any form
    return frozenset(found) or _SYSTEM
